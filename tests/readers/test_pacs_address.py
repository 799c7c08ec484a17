"""Addresses of archives: what is asked for, what is refused, and what no message quotes."""

import itertools
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medaug.errors import SettingsError
from medaug.readers.pacs.address import Address, is_address, is_uid, parse

SECRET = "Zq7Secret"
WEB = "dicomweb+http://pacs.example:8042/dicom-web"

texts = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x24F, exclude_characters="\\*?@"), min_size=1
).filter(lambda text: text.strip() == text and text.isprintable())


class TestAnAddressSaysWhatIsWanted:
    def test_dicomweb(self) -> None:
        address = parse(f"{WEB}/?PatientID=4%2B7&Modality=CT&Modality=SEG&timeout=5")
        assert address.web
        assert address.service == "http://pacs.example:8042/dicom-web"
        assert address.filters == {"PatientID": ("4+7",), "Modality": ("CT", "SEG")}
        assert address.timeout == 5

    @pytest.mark.parametrize(
        ("scheme", "port"), [("dicomweb+http", 80), ("dicomweb+https", 443), ("dimse", 11112)]
    )
    def test_ports_left_out(self, scheme: str, port: int) -> None:
        title = "AET@" if scheme == "dimse" else ""
        assert parse(f"{scheme}://{title}host?all=yes").port == port

    def test_dimse(self) -> None:
        address = parse(
            "dimse://MY%20PACS@10.0.0.1:104?StudyDate=20200101-20201231&retrieve=move"
            "&calling=US&receive_port=4243"
        )
        assert (address.called, address.calling) == ("MY PACS", "US")
        assert (address.retrieve, address.receive_port) == ("move", 4243)

    def test_values_come_from_a_file_too(self, tmp_path: Path) -> None:
        (tmp_path / "ids.txt").write_text("4711\n\n 4712 \n")
        address = parse(f"{WEB}?PatientID=@{tmp_path}/ids.txt&PatientID=4713")
        assert address.filters["PatientID"] == ("4711", "4712", "4713")

    @settings(max_examples=50)
    @given(texts)
    def test_any_patient_id_gets_through_and_is_not_shown(self, text: str) -> None:
        address = parse(f"{WEB}?PatientID={quote(SECRET + text, safe='')}")
        assert address.filters["PatientID"] == (SECRET + text,)
        assert SECRET not in address.shown + repr(address)

    def test_a_folder_is_no_address(self) -> None:
        assert not is_address("C:\\data")
        assert not is_address("/data/a:b/c@d")
        assert is_address(WEB)


WRONG = {
    f"{WEB}": "no filter",
    f"{WEB}?Modality=": "without a value",
    f"{WEB}?PatientID=*": "without a value",
    f"{WEB}?SeriesInstanceUID=1.2": "no filter",
    f"{WEB}?all=no": "no filter",
    f"{WEB}?all=yes&PatientID=1": "together with a filter",
    f"{WEB}?all=yes&all=yes": "twice",
    f"{WEB}?all": "not an address",
    f"{WEB}?PatientName=x": "unknown name",
    f"{WEB}?PatientID=1&retrieve=get": "unknown name",
    f"{WEB}?PatientID=a%5Cb": "backslash",
    f"{WEB}?PatientID=a%00b": "control character",
    f"{WEB}?StudyInstanceUID=1.2,1.3": "no UID",
    f"{WEB}?StudyDate=2024": "no date",
    f"{WEB}?Modality=CT,SEG": "repeat Modality",
    f"{WEB}?PatientID=@/no/such/file": "cannot be read",
    f"{WEB}?PatientID=1&timeout=0": "from 1 to 3600",
    f"{WEB}?PatientID=1#x": "%23",
    f"{WEB}/studies/1.2?all=yes": "not of the service",
    "http://host?all=yes": "unknown kind",
    "dicomweb+http://:8042?all=yes": "no host",
    "dicomweb+http://[::1]:8042?all=yes": "no host",
    "dicomweb+http://host:port?all=yes": "not an address",
    "dimse://host:104?all=yes": "application entity title",
    "dimse://AET@host/path?all=yes": "a path",
    "dimse://ATITLEOFMORETHAN16@host?all=yes": "application entity title",
    "dimse://AET@host?all=yes&retrieve=push": "retrieve=get or retrieve=move",
    "dimse://AET@host?all=yes&receive_port=99999": "65535",
    f"dicomweb+http://me:{SECRET}@host?all=yes": "MEDAUG_PACS_PASSWORD",
    f"dicomweb+https://{SECRET}@host?all=yes": "MEDAUG_PACS_PASSWORD",
    f"dimse://AET:{SECRET}@host?all=yes": "MEDAUG_PACS_PASSWORD",
}


class TestAWrongAddressIsRefused:
    @pytest.mark.parametrize("text", WRONG)
    def test_with_a_reason(self, text: str) -> None:
        with pytest.raises(SettingsError) as refused:
            parse(text)
        assert WRONG[text] in str(refused.value)
        assert SECRET not in str(refused.value)

    @settings(max_examples=50)
    @given(st.text(max_size=60), st.sampled_from(["", "?", "@h?PatientID=", "?all=yes&", ":1/"]))
    def test_whatever_it_is(self, text: str, middle: str) -> None:
        for whole in (text, f"dimse://{text}{middle}{SECRET}", f"{WEB}{middle}{text}={SECRET}"):
            try:
                came: object = parse(whole)
            except SettingsError as refused:
                came = refused
            assert isinstance(came, Address | SettingsError)
            assert SECRET not in str(came)


class TestFilters:
    """Every study wanted is asked for; what comes beyond is sorted out."""

    @settings(max_examples=40)
    @given(
        st.dictionaries(
            st.sampled_from(["PatientID", "StudyDate", "Modality"]),
            st.lists(st.integers(1, 3), min_size=1, max_size=3, unique=True),
            min_size=1,
        )
    )
    def test_the_questions_cover_what_is_wanted(self, wanted: dict[str, list[int]]) -> None:
        spelt = {"PatientID": "P{}", "StudyDate": "2024010{}", "Modality": "M{}"}
        query = "&".join(f"{k}={spelt[k].format(n)}" for k, ns in wanted.items() for n in ns)
        address = parse(f"{WEB}?{query}")
        for combination in itertools.product((1, 2, 3), repeat=3):
            study = {k: spelt[k].format(n) for k, n in zip(spelt, combination, strict=True)}
            inside = all(n in wanted.get(k, [n]) for k, n in zip(spelt, combination, strict=True))
            assert address.accepts(study) == inside
            asked = [
                all(
                    study[key.replace("ModalitiesInStudy", "Modality")] == value
                    for key, value in q.items()
                )
                for q in address.questions()
            ]
            assert any(asked) or not inside
        assert {} not in address.questions()

    @pytest.mark.parametrize(
        ("wanted", "came", "accepted"),
        [
            ("47*", "4711", True),
            ("47*", "1147", False),
            ("4?11", "4711", True),
            ("4?11", "47711", False),
            ("a.c", "abc", False),
            ("[4]", "4", False),
            ("4711", "47110", False),
            ("4711", " 4711 ", True),
            ("abc", "ABC", True),
            ("4711", "", False),
        ],
    )
    def test_wild_cards(self, wanted: str, came: str, accepted: bool) -> None:
        address = parse(f"{WEB}?PatientID={quote(wanted)}")
        assert address.accepts({"PatientID": came}) == accepted

    @pytest.mark.parametrize(
        ("wanted", "inside"),
        [("20240110-20240120", "10 15 20"), ("20240115-", "15 20 25"), ("-20240110", "05 10")],
    )
    def test_ranges_of_dates(self, wanted: str, inside: str) -> None:
        address = parse(f"{WEB}?StudyDate={wanted}")
        days = ("05", "10", "15", "20", "25")
        assert " ".join(d for d in days if address.accepts({"StudyDate": f"202401{d}"})) == inside
        assert not address.accepts({"StudyDate": ""})


def test_uids_cannot_lead_out_of_a_path() -> None:
    assert is_uid("1.2.840.0")
    assert not any(map(is_uid, ("", "1/../2", "1.2\n", "1" * 65, "١")))
