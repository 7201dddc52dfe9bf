"""No secret in what is written down or shown, and no harm to text without secrets."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bench.config.plan import load_plan
from bench.config.suite_file import read_suite
from bench.errors import SuiteError
from bench.execution.run_record import refuse_secrets
from bench.system.redaction import is_secret_name, redacted, redacted_command, redacted_in

ROOT = Path(__file__).parents[2]


@pytest.fixture
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variables of whoever runs the tests."""
    for name in list(os.environ):
        if is_secret_name(name) or "://" in os.environ[name]:
            monkeypatch.delenv(name)


# Put together here, so that no scanner of repositories takes this file for a leak.
SHAPES = [
    "ghp" + "_0123456789abcdefghijABCDEFGHIJ012345", "github" + "_pat_11ABCDEFG0123456789_abcdefghij",
    "hf" + "_abcdefghijklmnopqrstuvwx", "sk" + "-ant-api03-Abcdefghij0123456789", "sk" + "-Abcdefghij0123456789abcd",
    "AKIA" + "IOSFODNN7EXAMPLE", "xoxb" + "-1234567890-abcdef", "xoxp" + "-1234567890-abcdef",
    "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxIn0.abcDEF", "glpat" + "-0123456789abcdefghij",
    "npm" + "_abcdefghijklmnopqrstuvwxyz0123456789", "pypi" + "-AgEIcHlwaS5vcmcCJDAwMDAwMDAwLTAwMDA",
    "-----BEGIN RSA PRIVATE " + "KEY-----\nMIIBOgIBAAJBAKj34GkxFhD9\n-----END RSA PRIVATE " + "KEY-----",
]  # fmt: skip


@pytest.mark.parametrize("token", SHAPES)
@pytest.mark.parametrize("around", ["{}", "no access with {}: 403", "x='{}'", '{{"a": "{}"}}', "run {},"])
def test_known_kinds_of_tokens_go_wherever_they_stand(token: str, around: str) -> None:
    shown = redacted(around.format(token))
    assert token not in shown
    assert shown.replace("***", token) in (around.format(token), around.format(token) + token)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("can't reach http://ann:s3cret@host:5000/x", "can't reach http://***@host:5000/x"),
        ("https://s3cret@host/x.git", "https://***@host/x.git"),
        ("postgresql://ann:s3/cr@et@host/db", "postgresql://***@host/db"),
        ("a path made of it: /here/https:/ann:s3cret@host", "a path made of it: /here/https:/***@host"),
        ("next=https%3A%2F%2Fann%3As3cret%40host", "next=https%3A%2F%2F***%40host"),
        ("https://h/x?page=2&access_token=s3cret&n=3#end", "https://h/x?page=2&access_token=***&n=3#end"),
        ("https://b/x?X-Amz-Signature=0f&X-Amz-Date=1", "https://b/x?X-Amz-Signature=***&X-Amz-Date=1"),
        ("https://b/x?sv=2020&sig=s3cret%3D", "https://b/x?sv=2020&sig=***"),
        ("{'Authorization': 'Bearer s3cret'}", "{'Authorization': '***'}"),
        ("Authorization: Basic YW5uOnMzY3JldA==\nAccept: all", "Authorization: ***\nAccept: all"),
        ("Set-Cookie: sid=s3cret; Path=/", "Set-Cookie: ***"),
        ("curl --password s3cret --retry 3", "curl --password *** --retry 3"),
        ("DB_PASSWORD=s3cret dbPassword: 's3 cret', x", "DB_PASSWORD=*** dbPassword: '***', x"),
        ('{"api_key": "s3cret", "depth": 4}', '{"api_key": "***", "depth": 4}'),
        (r"{\"hf_token\": \"s3cret\"}", r"{\"hf_token\": \"***\"}"),
        ("token: s3cret77, token=s3cret77", "token: ***, token=***"),
    ],
)
def test_a_secret_is_known_by_its_place(text: str, shown: str) -> None:
    assert redacted(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "the class token: a learned vector; token_grid=14, tokens: 64, key=depth, num_tokens=197",
        "password: is it safe? The secret: nobody knows. KeyError: 'password'",
        "http://host:5000/@user/x, ssh://git@host/a.git, git@host:a.git, sqlite:///runs@2.db, http://[::1]:80/a@b",
        "image:tag@sha256:0123456789abcdef and user@example.org on C:/Users/me:x@y",
        "sk-p4-d6-fp32-cpu-s0-0123456789 task-force hf_ ghp_ eyJ. AKIA",
        "see https://h/x?page=2&sort=key&depth=4 at 12:30; a=b; c=d",
        '{"pool": "token", "num_heads": 4, "key": "value", "training": {"optimizer": "adamw"}}',
        "RuntimeError: mat1 and mat2 shapes cannot be multiplied (64x192 and 768x10)",
        "key: vit-p4-d6-fp32-cpu-s0-0123456789, sha256:0123456789ab, cb0c926f4d5e6a7b8c9d0e1f2a3b4c5d6e7f8091",
        "password=None, secret=null, PWD=/srv/x, bearer of bad news",
    ],
)
def test_text_without_secrets_stays(text: str, nothing_set: None) -> None:
    assert redacted(text) == text


SENTENCE = (
    "the model token tokens key class of a trains faster than cnn vit with depth 12 and learning rate 3e-4 on 60,000 "
    "images; author: session: secret to success auth path=/data/mnist.csv run=results/mnist/latest 99.1% (p < 0.05) "
    "cuda:0 epoch=3 batch_size=64 --suite --seeds 3 http://localhost:5000 https://arxiv.org/abs/2010.11929v2"
)
WORDS = st.sampled_from(SENTENCE.split())
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["depth", "pool", "token", "key", "num_heads", "settings"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(st.lists(WORDS, max_size=20).map(" ".join), PLAIN, st.binary(min_size=5, max_size=32))
def test_sentences_settings_and_checksums_stay(sentence: str, settings: object, digest: bytes) -> None:
    for text in (sentence, json.dumps(settings), repr(settings), digest.hex(), f"sha256:{digest.hex()[:12]}"):
        assert redacted(text) == text
    assert redacted_in(settings) == settings


PIECES = st.sampled_from(
    [*SHAPES, "password=", "token: ", "--password ", "http://", "a:b@", "***", '"', "'", "\\", "&key=", "=", ":", " ",
     "Bearer ", "Authorization: ", "s3cret77", "\n", "?", "@host", "%3A%2F%2F", "%40", "\ud800", "Cookie: a="]
)  # fmt: skip


@given(st.lists(PIECES | st.text(max_size=8), max_size=12).map("".join))
@example("password=***@a:b@")
def test_any_text_can_be_redacted_and_a_second_time_changes_nothing(text: str) -> None:
    once = redacted(text)
    assert redacted(once) == once


NAMES = {
    True: "HF_TOKEN GITHUB_TOKEN AWS_SECRET_ACCESS_KEY AWS_ACCESS_KEY_ID PGPASSWORD DB_PASSWD MYSQL_PWD API_KEY apiKey "
    "WANDB_API_KEY NETRC_AUTH SESSION_ID SESSION_COOKIE RAY_AUTH_TOKEN AZURE_CREDENTIAL X-Amz-Signature",
    False: "PWD OLDPWD SSH_AUTH_SOCK XAUTHORITY TOKENIZERS_PARALLELISM KEYBOARD_LAYOUT DESKTOP_SESSION "
    "MAX_TOKEN_LENGTH XDG_SESSION_TYPE PASSWORD_FILE AUTHOR PATH LANG MONKEY_TYPE page depth X-Amz-Date",
}


@pytest.mark.parametrize(("expected", "names"), NAMES.items())
def test_a_variables_name_tells_whether_it_holds_a_secret(expected: bool, names: str) -> None:
    assert [name for name in names.split() if is_secret_name(name) is not expected] == []


def forms(secret: str) -> set[str]:
    """As written, for addresses, for JSON, and in base64 behind zero to two other bytes."""
    found = {
        secret,
        quote(secret, safe=""),
        quote(secret, safe="").lower(),
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
    }
    raw = secret.encode()
    for before, first in ((0, 0), (1, 2), (2, 3)):
        code = base64.b64encode(b"x" * before + raw).decode()[first : 8 * (before + len(raw)) // 6]
        found |= {code, code.replace("+", "-").replace("/", "_")}
    return found


@pytest.mark.parametrize(
    "value", ["pa$$ wörd/+?&=", "correct-horse-battery", "quo\"te\\d'x", "a1b2c3", "two\nlines of it"]
)
def test_a_variables_value_goes_in_every_form(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", value)
    for form in forms(value):
        assert form not in redacted(f"no access ({form}) for ann"), form
    code = base64.b64encode(f"ann:{value}:x".encode()).decode()
    assert redacted(f"as sent: {code}") != f"as sent: {code}"
    assert redacted("access for ann") == "access for ann"
    monkeypatch.delenv("MY_SECRET")
    assert redacted(f"({value})") == f"({value})"  # what was remembered goes with the variable


def test_a_short_value_does_not_take_words_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hunter")
    assert redacted("a headhunter, a hunter") == "a headhunter, a ***"
    for value in ("short", "enabled", str(ROOT)):  # too short, no secret, where one lies
        monkeypatch.setenv("DB_PASSWORD", value)
        assert redacted(f"({value})") == f"({value})"


def test_of_an_address_in_a_variable_only_the_credentials_are_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://annabel:pa%40ssword@proxy.example:3128")
    assert redacted("proxy.example refused pa@ssword, pa%40ssword") == "proxy.example refused ***, ***"


def test_a_commands_arguments_lose_their_secrets_and_nothing_else() -> None:
    plain = ["--suite", "mnist", "--set", "models.vit.depth=[2,4]", "--mlflow", "sqlite:///runs.db", "--out", "a b"]
    assert redacted_command(plain) == plain
    secret = [
        "--mlflow=http://u:p@h/x",
        "--set",
        f"description={SHAPES[0]}",
        "--token",
        "abc",
        "--data",
        "http:/u:p@h",
    ]
    assert redacted_command(secret) == [
        "--mlflow=http://h/x", "--set", "description=***", "--token", "***", "--data", "http:/***@h",
    ]  # fmt: skip


def test_a_secret_among_a_models_settings_is_refused_before_anything_runs(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    (tmp_path / "mine.yaml").write_text("dataset: digits\nmodels: [{model: cnn, depth: 1, width: 4}]\n")
    plan = load_plan(read_suite(path, []))
    refuse_secrets(plan)
    trial = plan.trials[0].model_copy(update={"settings": {"depth": 1, "hf_token": "s3cret"}})
    with pytest.raises(SuiteError, match="setting 'hf_token' of cnn holds what looks like a secret"):
        refuse_secrets(plan.__class__(**{**vars(plan), "trials": (trial,)}))


SUITE = """
description: trained with {token}, from https://ann:{password}@data.example/x?sig={signature}
dataset: digits
models:
  - {{model: cnn, depth: 1, width: 4}}
  - {{model: "leaky:build"}}
batch_size: 100
num_threads: 1
timing: whole
instrument_seconds: 0.05
epochs: 1
seeds: 1
targets: [0.2]
"""
LEAKY = """
import os, torch, warnings
from torch import nn

class Leaky(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Linear(64, num_classes)

    def forward(self, x):
        if x.device.type != "meta":
            held = dict(os.environ)
            raise RuntimeError("401 for " + " ".join(sorted(held.values())) + " at " + repr(held) +
                               " with Authorization: Bearer " + held["HF_TOKEN"])
        return self.head(x.flatten(1))

def build(num_classes):
    return Leaky(num_classes)
"""
ENTRY = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from bench.report import figures
figures.RUN_PLOTS = figures.GALLERY_PLOTS = ()
import run_bench
sys.exit(run_bench.main())
"""
SECRETS = {
    "HF_TOKEN": SHAPES[2], "GITHUB_TOKEN": SHAPES[0], "MY_API_KEY": "q7Zk-93hf/x+Lm==",
    "DB_PASSWORD": "correct horse 7",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCY", "PGPASSWORD": "hunter2!", "JWT_SECRET": "s3cr3t&<b>'x\"",
    "SESSION_COOKIE": "sid-55aa66bb77", "PRIVATE_KEY": "-----BEGIN x\nMIIBOgIBAAJBAKj34GkxFhD9\nend",
    "SERVICE_CREDENTIALS": "ann:pa55phrase", "NPM_AUTH": "YW5uOnBhNTVwaHJhc2U3",
}  # fmt: skip
ADDRESSES = {
    "HTTPS_PROXY": ("http://ann:pr0xypass@127.0.0.1:9", "pr0xypass"),
    "DATABASE_URL": ("postgresql://ann:d4tab%40se@h/db", "d4tab%40se"),
    "SENTRY_DSN": ("https://0a1b2c3d4e5f@o1.example/2", "0a1b2c3d4e5f"),
}


@pytest.mark.timeout(300)  # it loads torch in processes of its own, which a busy machine takes minutes for
@pytest.mark.slow
def test_no_secret_reaches_any_file_or_stream_of_a_run(tmp_path: Path) -> None:
    """Real processes; a model that puts all of its environment into the message of its exception."""
    typed = {"token": SHAPES[9], "password": "typed-pa55word", "signature": "5ignatureXyz"}
    (tmp_path / "mine.yaml").write_text(SUITE.format(**typed))
    (tmp_path / "leaky.py").write_text(LEAKY)
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "OMP_NUM_THREADS") if name in os.environ}
    environment |= SECRETS | {name: address for name, (address, _) in ADDRESSES.items()}
    arguments = [
        "--suite",
        "mine.yaml",
        "--out",
        "run",
        "--json",
        "--set",
        f"description=again {SHAPES[5]} {typed['token']}",
    ]
    process = subprocess.run(
        [sys.executable, "-c", ENTRY, *arguments], cwd=tmp_path, env=environment, capture_output=True, check=False
    )
    said = process.stdout + process.stderr
    assert process.returncode == 1, said.decode()
    files = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert any(path.name == "report.html" for path in files)
    assert b"401 for" in files[tmp_path / "run" / "trials.csv"]
    assert b"***" in files[tmp_path / "run" / "run.json"]
    secrets = {*SECRETS.values(), *typed.values(), SHAPES[5], *(secret for _, secret in ADDRESSES.values())}
    secrets |= {"MIIBOgIBAAJBAKj34GkxFhD9", "pa55phrase", "d4tab@se"}
    for secret in secrets:
        for form in forms(secret):
            found = [str(path.relative_to(tmp_path)) for path, content in files.items() if form.encode() in content]
            assert found == [], form
            assert form.encode() not in said, form
