import csv
import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.workload.mooncake import spread
from penstock.workload.readers import read_trace, sniff_format

AZURE_2023 = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:51.2224670,879,55
"""
AZURE_2024 = """TIMESTAMP,ContextTokens,GeneratedTokens
2024-05-10 00:00:00.009930+00:00,2162,5
2024-05-10 00:00:00.017335+00:00,2399,6
"""
BURSTGPT = """Timestamp,Session ID,Elapsed time,Model,\
Request tokens,Response tokens,Total tokens,Log Type
5,,0.4,ChatGPT,472,18,490,Conversation log
45,,0.2,GPT-4,1087,0,1087,API log
118,,1.0,GPT-4,417,276,693,Conversation log
"""
MOONCAKE = """{"timestamp": 0, "input_length": 1000, "output_length": 5, "hash_ids": [0, 1]}
{"timestamp": 3000, "input_length": 600, "output_length": 7, "hash_ids": [0, 2]}
"""
PLAIN = """arrival_s,prompt_tokens,output_tokens,extra,class,tenant,model
0.5,10,3,zzz,chat,acme,m
0.5,20,4,,batch,acme,m
2.25,30,5,zzz,chat,bolt,m
"""


@pytest.fixture
def write(tmp_path: Path):
    def write_file(text: str | bytes, name: str = "trace.csv") -> Path:
        path = tmp_path / name
        raw = text.encode() if isinstance(text, str) else text
        path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
        return path
    return write_file


def message(path: Path, **options) -> str:
    with pytest.raises(InputError) as caught:
        read_trace(path, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text.removeprefix(str(path))


@pytest.mark.parametrize(("text", "name", "kind"), [
    (AZURE_2023, "a.csv", "azure"), (BURSTGPT, "b.csv", "burstgpt"),
    (MOONCAKE, "m.txt", "mooncake"),
    (PLAIN, "p.csv", "csv"), ("num_prefill_tokens,num_decode_tokens\n5,6\n", "l.csv", "lengths"),
])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_format_is_told_from_the_header(write, text, name, kind, suffix):
    assert sniff_format(write(text, name + suffix)) == kind


def test_azure_2023_times_are_exact_offsets(write):
    trace = read_trace(write(AZURE_2023))
    assert trace.arrival_s.tolist() == [0.0, 4.314579, 4.541877]
    assert trace.prompt_tokens.tolist() == [374, 396, 879]
    assert trace.output_tokens.tolist() == [44, 109, 55]


@pytest.mark.parametrize("text", [
    AZURE_2024, AZURE_2024.replace("+00:00", ""), AZURE_2024.replace("+00:00", "Z"),
    AZURE_2024.replace("+00:00", "+02:00"), AZURE_2024.replace("+00:00", "-05:00"),
    AZURE_2024.replace("017335+00:00", "017335"),
    # The same instants, the second one told by a clock five hours behind.
    AZURE_2024.replace("2024-05-10 00:00:00.017335+00:00", "2024-05-09 19:00:00.017335-05:00"),
])
def test_azure_2024_zones(write, text):
    np.testing.assert_allclose(read_trace(write(text)).arrival_s, [0.0, 0.007405], atol=1e-12)


def test_logs_are_sorted_and_lose_failures(write):
    trace = read_trace(write(BURSTGPT))
    assert trace.arrival_s.tolist() == [0.0, 113.0]
    assert trace.num_dropped == 1
    assert trace.model.names[trace.model.index[1]] == "GPT-4"
    rows = AZURE_2023.splitlines()
    swapped = read_trace(write("\n".join([rows[0], rows[3], rows[1], rows[2]])))
    assert swapped.prompt_tokens.tolist() == [374, 396, 879]


def test_mooncake_prefixes_and_labels(write):
    trace = read_trace(write(MOONCAKE, "m.jsonl"))
    assert trace.arrival_s.tolist() == [0.0, 3.0]
    assert trace.prefixes.offsets.tolist() == [0, 2, 4]
    assert trace.prefixes.values.tolist() == [0, 1, 0, 2]
    assert trace.prefixes.block_tokens == 512
    assert trace.tenant is None


def test_unsorted_mooncake_rows_keep_their_hashes(write):
    first, second = MOONCAKE.splitlines()
    trace = read_trace(write(f"{second}\n\n{first}\n", "m.jsonl"))
    assert trace.prompt_tokens.tolist() == [1000, 600]
    assert trace.prefixes.values.tolist() == [0, 1, 0, 2]


def test_stamps_alike_are_spread_within_their_step():
    times = np.array([0.0, 0.0, 0.0, 3.0, 3.0, 6.0, 6.0, 6.0, 60.0, 60.0])
    even = spread(times)
    np.testing.assert_allclose(even, [0, 1, 2, 3, 4.5, 6, 7, 8, 60, 61.5])
    assert spread(np.array([0.0, 1.0, 1.0, 2.5])).tolist() == [0.0, 1.0, 1.0, 2.5]


def test_plain_file_with_labels(write):
    trace = read_trace(write("\ufeff" + PLAIN.replace("\n", "\r\n") + "\r\n"))
    assert trace.arrival_s.tolist() == [0.5, 0.5, 2.25]
    assert trace.service_class.names == ("chat", "batch")
    assert trace.service_class.index.tolist() == [0, 1, 0]
    assert trace.tenant.names == ("acme", "bolt")
    assert trace.num_dropped == 0


def test_other_spellings_and_float_written_counts(write):
    text = "arrived_at,num_prefill_tokens,Num Decode Tokens\n1,7.0,8\n"
    trace = read_trace(write(text))
    assert (trace.prompt_tokens.tolist(), trace.output_tokens.tolist()) == ([7], [8])
    lengths = read_trace(write("input_len,output_len\n3,4\n"))
    assert lengths.arrival_s is None
    assert lengths.duration_s == 0.0


def row(text: str) -> str:
    return f"arrival_s,prompt_tokens,output_tokens\n0.0,1,1\n\n{text}\n9.0,1,1\n"


@pytest.mark.parametrize(("text", "said"), [
    (row("1.0,-5,1"), ":4: prompt_tokens is -5; expected a whole number from 1 to 10,000,000"),
    (row("1.0,0,1"), ":4: prompt_tokens is 0;"),
    (row("1.0,5,0"), ":4: output_tokens is 0;"),
    (row("1.0,5.5,1"), ":4: prompt_tokens is 5.5;"),
    (row("1.0,nan,1"), ":4: prompt_tokens is nan;"),
    (row("1.0,5,1e99"), ":4: output_tokens is 1e+99;"),
    (row("1.0,5,10000001"), ":4: output_tokens is 1e+07;"),
    (row("1.0,five,1"), ":4: prompt_tokens is 'five'; expected a number"),
    (row("1.0,,1"), ":4: prompt_tokens is empty; expected a number"),
    (row("1.0,5"), ":4: 2 fields; expected 3"),
    (row("1.0,5,6,7"), ":4: 4 fields; expected 3"),
    (row("10.0,5,6"), ":5: arrival_s 9.0 is earlier than 10.0 of the row before;"),
    (row("-1.0,5,6"), ":4: arrival_s is -1; expected seconds from 0 up"),
    (row("nan,5,6"), ":4: arrival_s is nan;"),
    (row("inf,5,6"), ":4: arrival_s is inf;"),
    ("", ": the file is empty"),
    ("\n\n", ": the file is empty"),
    ("arrival_s,prompt_tokens,output_tokens\n", ": no requests; the file holds only a header"),
    ("arrival_s,promt_tokens,output_tokens\n0,1,1\n",
     ": no column 'prompt_tokens'; found 'arrival_s', 'promt_tokens', 'output_tokens'; "
     "is 'promt_tokens' meant to be 'prompt_tokens'?"),
    ("arival_s,prompt_tokens,output_tokens\n0,1,1\n", "is 'arival_s' meant to be 'arrival_s'?"),
    ("timestamp,prompt_tokens,output_tokens\n0,1,1\n", "name it 'arrival_s' if it is in seconds"),
    ("Time,prompt_tokens,output_tokens\n0,1,1\n", "no column 'arrival_s'; if 'Time' is when"),
    ("timestamp_ms,prompt_tokens,output_tokens\n0,1,1\n", "if 'timestamp_ms' is when requests"),
    ("arrival_s,Prompt Tokens,prompt_tokens,output_tokens\n0,1,1,1\n",
     ": column 'prompt_tokens' appears twice"),
    ("arrival_s;prompt_tokens;output_tokens\n0;1;1\n", "; expected commas between columns"),
    ("arrival_s\tprompt_tokens\toutput_tokens\n0\t1\t1\n", "; expected commas between columns"),
    ("arrival_s,prompt_tokens,output_tokens\n1700000000000,1,1\n",
     ":2: arrival_s is 1.7e+12; expected seconds; if these are milliseconds, divide them by 1000"),
    (AZURE_2023.replace("2023-11-16 18:15:50.9951690", "yesterday"),
     ":3: TIMESTAMP is 'yesterday'; expected a date"),
    (AZURE_2023.replace("2023-11-16 18:15:50.9951690", ""), ":3: TIMESTAMP is empty;"),
    (AZURE_2023.replace("2023-11-16 18:15:50.9951690", "NaT"), ":3: TIMESTAMP is 'NaT';"),
    (AZURE_2024.replace("2024-05-10 00:00:00.017335", "2024-05-40 00:00:00.017335"), ":3: TIMES"),
    (BURSTGPT.replace(",18,", ",0,").replace(",276,", ",0,"), "every row has 0 output tokens"),
    (BURSTGPT.replace("118,", "inf,"), ":4: timestamp is inf;"),
])
def test_bad_csv_names_the_line(write, text, said):
    assert said in message(write(text))


@pytest.mark.parametrize(("line", "said"), [
    ('{"timestamp": 1, "input_length": 5', ":3: not a JSON object ("),
    ("[1, 2]", ":3: found '[1, 2]'; expected a JSON object"),
    ('{"timestamp": 1, "output_length": 5}', ":3: no field 'input_length'; found 'timestamp', "),
    ('{"timestamp": "x", "input_length": 5, "output_length": 5}', ":3: timestamp is 'x';"),
    ('{"timestamp": 1, "input_length": null, "output_length": 5}', ":3: input_length is 'None';"),
    ('{"timestamp": 1, "input_length": 0, "output_length": 5}', ":3: prompt_tokens is 0;"),
    ('{"timestamp": 1, "input_length": 5, "output_length": 5, "hash_ids": [1, 2]}',
     ":3: 2 hash_ids for 5 prompt tokens; expected at most 1"),
    ('{"timestamp": 1, "input_length": 5, "output_length": 5, "hash_ids": [-1]}', ":3: hash_ids"),
    ('{"timestamp": 1, "input_length": 5, "output_length": 5, "hash_ids": ["a"]}', ":3: hash_ids"),
    ('{"timestamp": 1, "input_length": 5, "output_length": 5, "hash_ids": 7}', ":3: hash_ids is"),
])
def test_bad_json_names_the_line(write, line, said):
    assert said in message(write(f"{MOONCAKE}{line}\n", "m.jsonl"))


@pytest.mark.parametrize(("raw", "said"), [
    (gzip.compress(PLAIN.encode())[:-12], ": the gzip file is cut short"),
    (b"\x1f\x8b" + bytes(40), ": the gzip file is damaged"),
    (bytes(range(200, 256)) * 20, ": not a text file (byte 0xc8)"),
    (b"a\0b\0" * 20, ": not a text file (it holds null bytes)"),
    (b'arrival_s,prompt_tokens,output_tokens\n"' + b"x" * 200_000, ": not a CSV file ("),
])
def test_damaged_files(write, raw, said):
    # A process-wide limit, which other libraries raise when they are imported.
    limit = csv.field_size_limit(131_072)
    try:
        found = message(write(raw, "damaged.csv"))
    finally:
        csv.field_size_limit(limit)
    assert said in found


def test_times_that_are_not_read_are_left_out_only_on_demand(write):
    path = write("time,prompt_tokens,output_tokens\n0,1,1\n")
    assert read_trace(path, "lengths").arrival_s is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes of POSIX")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    assert message(tmp_path / "pipe.csv").startswith(": is a pipe; expected a file")


def test_missing_file_directory_and_format(tmp_path, write):
    assert message(tmp_path / "none.csv") == ": No such file or directory"
    assert message(tmp_path) == ": Is a directory"
    assert message(tmp_path / "none.parquet")
    with pytest.raises(InputError, match="unknown trace format 'azur'; did you mean 'azure'"):
        read_trace(write(PLAIN), "azur")
    assert "no column 'timestamp'" in message(write(PLAIN), format="azure")


def test_fault_far_into_the_file_is_found(write):
    rows = [f"{i},5,5" for i in range(40_000)]
    rows[36_000] = "36000,5,oops"
    text = "\n".join(["arrival_s,prompt_tokens,output_tokens", *rows])
    assert ":36002: output_tokens is 'oops'" in message(write(text, "t.csv.gz"))


def test_real_plain_file(shared_data):
    name = "vidur_a100_llama3_8b_5000req_qps6.45_requests.csv.gz"
    trace = read_trace(shared_data / "vidur" / name)
    assert len(trace) == 5000
    assert trace.rate_per_s == pytest.approx(6.825, abs=0.01)


def test_real_mooncake_spreads_without_disorder(shared_data):
    path = shared_data / "traces" / "mooncake_conversation_with_hash_ids.jsonl.gz"
    raw, even = read_trace(path, spread_steps=False), read_trace(path)
    assert (np.diff(even.arrival_s) >= 0).all()
    assert (even.arrival_s >= raw.arrival_s).all()
    assert (even.arrival_s - raw.arrival_s).max() < 3.01
    assert (np.diff(even.arrival_s) == 0).mean() < 0.01
