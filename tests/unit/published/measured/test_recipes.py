from penstock.published.measured.recipes import Recipe, Side, System, recipes

GB200 = System("gb200", "deepseek-r1", "fp4", "tensorrt-llm", 1024, 1024)


def test_a_recipe_states_workers_limits_and_drafts() -> None:
    found = [one for one in recipes(GB200) if one.has("0.8.1.post2", 192)]
    assert found == [Recipe(("0.8.1.post2",), (12, 24, 48, 96, 192), 0,
                            Side(1, 1, 4, 4, 1, 64, 65536),
                            Side(4, 8, 1, 8, 1, 32))]
    assert found[0].workers == (1, 4)
    assert found[0].num_accelerators == 36


def test_releases_bind_where_both_are_known() -> None:
    recipe = Recipe(("0.8.1.post2",), (4,), 0, Side(1, 1), Side(1, 1))
    assert recipe.has("v0.8.1.post2-cu130-runtime", 4)
    assert recipe.has("", 4)
    assert not recipe.has("0.8.1", 4)
    assert not recipe.has("0.8.1.post2", 5)


def test_models_of_one_size_share_recipes() -> None:
    assert recipes(GB200._replace(model="deepseek-v3")) == recipes(GB200)


def test_an_unknown_system_has_none() -> None:
    assert recipes(GB200._replace(accelerator="a100-80gb")) == ()


def test_recipes_that_differ_only_in_limits_have_one_spread() -> None:
    recipe = recipes(System("b200", "deepseek-r1", "fp4", "sglang", 1024, 1024))[0]
    fuller = recipe._replace(decode=recipe.decode._replace(seqs=1), releases=())
    assert fuller.spread == recipe.spread
    assert recipe._replace(drafts=3).spread != recipe.spread
    more = recipe.prefill._replace(workers=recipe.prefill.workers + 1)
    assert recipe._replace(prefill=more).spread != recipe.spread
