"""``penstock lab schema``: the fleet file's JSON Schema."""


from penstock.cli.command import App
from penstock.cli.exits import OK

app = App()


@app.command(epilog="Example: penstock lab schema > fleet.schema.json")
def schema() -> int:
    """Print the JSON Schema of the fleet file, for completion and checks in editors."""
    from penstock.cli.console import print_json
    from penstock.fleet.schema import fleet_schema

    print_json(fleet_schema())
    return OK
