"""Named data sets: schemas that fit the files, and every way to a file or to a clear error."""

import dataclasses
import functools
import hashlib
import http.server
import pathlib
import threading
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from fl_research.data import public_files
from fl_research.data.client_data import ClientData
from fl_research.data.datasets import registry as datasets
from fl_research.data.datasets import telco_churn
from fl_research.data.schema import encode
from fl_research.errors import InputError

_HEADER = (
    "customerID,gender,SeniorCitizen,Partner,Dependents,tenure,PhoneService,MultipleLines,"
    "InternetService,OnlineSecurity,OnlineBackup,DeviceProtection,TechSupport,StreamingTV,"
    "StreamingMovies,Contract,PaperlessBilling,PaymentMethod,MonthlyCharges,TotalCharges,Churn"
)
_CONTENT = f"""{_HEADER}
A-1,Female,0,Yes,No,0,No,No phone service,DSL,No,Yes,No,No,No,No,Two year,Yes,Mailed check,30, ,No
A-2,Male,1,No,No,72,Yes,No,No,{",".join(["No internet service"] * 6)},One year,No,Electronic check,\
120,9000,Yes
""".encode()

needs_shared_data = pytest.mark.skipif(
    not (public_files.SHARED_DATA / "telco_churn").is_dir(),
    reason="the real Telco file is not in ../shared/data",
)


@pytest.fixture
def no_shared_data(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> pathlib.Path:
    """A machine without the shared folder; returns its cache folder, which does not exist yet."""
    cache = tmp_path / "cache"
    monkeypatch.setattr(public_files, "SHARED_DATA", tmp_path / "absent")
    monkeypatch.setenv(public_files.CACHE_VARIABLE, str(cache))
    return cache


@pytest.fixture
def published(tmp_path: pathlib.Path) -> Iterator[tuple[str, pathlib.Path]]:
    """A real HTTP server: (the address of a file of two customers, that file)."""
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "telco.csv").write_bytes(_CONTENT)
    handler = functools.partial(_QuietHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/telco.csv", folder / "telco.csv"
    server.shutdown()
    server.server_close()


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder without a log."""

    def log_message(self, *args: object) -> None:
        pass


def _published_at(monkeypatch: pytest.MonkeyPatch, address: str, *contents: bytes) -> list[str]:
    """Lets the reader expect Telco at another address with these contents' checksums."""
    sha256s = [hashlib.sha256(content).hexdigest() for content in contents]
    (file,) = telco_churn.FILES.files
    changed = dataclasses.replace(file, address=address, sha256s=tuple(sha256s), name="telco.csv")
    monkeypatch.setattr(
        telco_churn, "FILES", dataclasses.replace(telco_churn.FILES, files=(changed,))
    )
    return sha256s


def test_telco_encodes_to_46_features(tmp_path: pathlib.Path) -> None:
    (tmp_path / "telco.csv").write_bytes(_CONTENT)
    loaded = datasets.load("telco_churn", path=str(tmp_path / "telco.csv"))
    encoded = encode(loaded.records, loaded.schema)
    assert encoded.inputs.shape == (2, 46)
    assert encoded.inputs.dtype == np.float32
    by_name = dict(zip(encoded.feature_names, encoded.inputs.T, strict=True))
    for number in ("tenure", "MonthlyCharges", "TotalCharges"):
        assert by_name[number][1] == 1.0
    assert by_name["tenure"][0] == by_name["TotalCharges"][0] == -1.0
    assert by_name["MonthlyCharges"][0] == -0.5
    one_hot = [values for name, values in by_name.items() if set(values) <= {0.0, 1.0}]
    assert len(one_hot) == 43
    assert np.all(np.sum(one_hot, axis=0) == 16)  # one value in each of 16 categories
    assert list(encoded.labels) == [0, 1]
    assert encoded.client_ids is not None
    assert list(encoded.client_ids) == ["A-1", "A-2"]


def test_another_copy_given_by_the_user_is_used_and_noted(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "mine.csv").write_bytes(_CONTENT)
    loaded = datasets.load("telco_churn", path=str(tmp_path / "mine.csv"))
    own = hashlib.sha256(_CONTENT).hexdigest()
    assert loaded.sha256 == own
    assert len(loaded.records) == 2
    (note,) = loaded.notes
    assert own in note and telco_churn.FILES.files[0].sha256s[0] in note
    assert note in caplog.text


def test_download_is_checked_kept_and_used_again(
    monkeypatch: pytest.MonkeyPatch, no_shared_data: pathlib.Path, published
) -> None:
    address, file = published
    crlf = _CONTENT.replace(b"\n", b"\r\n")
    _published_at(monkeypatch, address, _CONTENT, crlf)
    first = datasets.load("telco_churn")
    file.unlink()
    again = datasets.load("telco_churn")
    assert first.notes == again.notes == ()
    pd.testing.assert_frame_equal(first.records, again.records)
    cached = no_shared_data / "telco_churn" / "telco.csv"
    assert first.source == str(cached)
    assert [path for path in no_shared_data.rglob("*") if path.is_file()] == [cached]
    cached.write_bytes(crlf)  # the other known copy
    assert datasets.load("telco_churn").sha256 == hashlib.sha256(crlf).hexdigest()
    cached.write_bytes(b"broken")
    with pytest.raises(InputError, match=hashlib.sha256(b"broken").hexdigest()) as caught:
        datasets.load("telco_churn")
    assert hashlib.sha256(_CONTENT).hexdigest() in str(caught.value)


def test_a_changed_download_is_refused_and_not_kept(
    monkeypatch: pytest.MonkeyPatch, no_shared_data: pathlib.Path, published
) -> None:
    address, _ = published
    (expected,) = _published_at(monkeypatch, address, b"something else")
    with pytest.raises(InputError) as caught:
        datasets.load("telco_churn")
    message = str(caught.value)
    assert expected in message and hashlib.sha256(_CONTENT).hexdigest() in message
    assert "--data=PATH" in message and "\n" not in message
    assert not [path for path in no_shared_data.rglob("*") if path.is_file()]


@pytest.mark.usefixtures("no_shared_data")
@pytest.mark.parametrize("path", ["/gone.csv", None], ids=["not found", "no connection"])
def test_without_the_file_one_line_says_the_way_out(
    monkeypatch: pytest.MonkeyPatch, published, path: str | None
) -> None:
    address, _ = published
    # Port 1 of this machine refuses connections at once.
    address = address.replace("/telco.csv", path) if path else "http://127.0.0.1:1/telco.csv"
    (expected,) = _published_at(monkeypatch, address, _CONTENT)
    with pytest.raises(InputError) as caught:
        datasets.load("telco_churn")
    message = str(caught.value)
    assert address in message and expected in message and "--data=PATH" in message
    assert "\n" not in message


def test_synthetic_is_generated_from_the_seed() -> None:
    first, again, other = (datasets.load("synthetic_telecom", seed=seed) for seed in (3, 3, 4))
    pd.testing.assert_frame_equal(first.records, again.records)
    assert not first.records.equals(other.records)
    assert "seed 3" in first.source and first.sha256 is None
    assert first.schema == other.schema


def test_wrong_names_and_paths_are_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match="dataset='telco' is unknown; choose one of .*telco_churn"):
        datasets.load("telco")
    with pytest.raises(
        InputError, match="^data=mine.csv .*'synthetic_telecom', which is generated"
    ):
        datasets.load("synthetic_telecom", path="mine.csv")
    with pytest.raises(InputError, match="absent"):
        datasets.load("telco_churn", path=str(tmp_path / "absent.csv"))


@needs_shared_data
def test_real_telco_is_known_and_learnable() -> None:
    """Central logistic regression on ten 80/20 splits, beside an encoding made independently.

    One split's AUC has a standard deviation of 0.01 (measured over 100 splits, mean 0.845), so
    that the mean of ten is held to 0.845 +- 0.015, and the two encodings to each other.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    loaded = datasets.load("telco_churn")
    assert loaded.sha256 in telco_churn.FILES.files[0].sha256s
    assert loaded.notes == ()
    encoded = encode(loaded.records, loaded.schema)
    attributes = loaded.records.drop(columns=["customerID", "Churn"])
    numbers = ["tenure", "MonthlyCharges", "TotalCharges"]
    attributes[numbers] = attributes[numbers].apply(pd.to_numeric, errors="coerce").fillna(0.0)
    independent = pd.get_dummies(attributes).to_numpy(np.float64)
    independent = (independent - independent.mean(axis=0)) / independent.std(axis=0)
    data = ClientData.from_rows(
        {"inputs": encoded.inputs, "independent": independent}, encoded.labels, encoded.client_ids
    )
    assert data.num_clients == data.num_rows == 7043
    assert data.features["inputs"].shape == independent.shape == (7043, 46)
    assert data.labels.sum() == 1869
    assert any("TotalCharges" in rule and count == 11 for rule, count in encoded.cleaning.items())
    aucs = []
    for seed in range(10):
        train, _, test = data.split(validation_fraction=0, test_fraction=0.2, seed=seed)
        pair = []
        for name in ("inputs", "independent"):
            model = LogisticRegression(max_iter=2000).fit(train.features[name], train.labels)
            pair.append(roc_auc_score(test.labels, model.decision_function(test.features[name])))
        assert pair[0] == pytest.approx(pair[1], abs=0.002)
        aucs.append(pair[0])
    print(f"central AUC {np.round(aucs, 4)}, mean {np.mean(aucs):.4f}")
    assert np.mean(aucs) == pytest.approx(0.845, abs=0.015)
