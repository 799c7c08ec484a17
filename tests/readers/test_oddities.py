"""What a library says about a file is counted by the thread that reads it, and by no other."""

import logging
import threading
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from medaug.readers.oddities import withheld

SECRET = "Doe^Jane"


def speak(logger="pydicom"):
    warnings.warn(SECRET, UserWarning, stacklevel=2)
    logging.getLogger(logger).warning(SECRET)


class TestOneThread:
    """User and runtime warnings and log lines are withheld and counted; others are passed on."""

    @pytest.mark.parametrize("logger", ["pydicom", "PIL", "PIL.TiffImagePlugin", "nibabel.global"])
    def test_texts_do_not_come_through(self, logger, caplog, capsys):
        noted = Counter()
        with caplog.at_level(logging.DEBUG), withheld(noted, "odd"):
            speak(logger)
        assert noted == {"odd": 1}
        assert SECRET not in caplog.text
        assert SECRET not in "".join(capsys.readouterr())

    def test_silence_counts_nothing(self):
        noted = Counter()
        with withheld(noted, "odd"):
            logging.getLogger("pydicom").info("fine")
        assert not noted

    def test_a_warning_about_the_code_is_passed_on(self):
        noted = Counter()
        with pytest.warns(DeprecationWarning, match="old") as told, withheld(noted, "odd"):
            warnings.warn("old", DeprecationWarning, stacklevel=1)
        assert len(told) == 1
        assert not noted

    def test_outside_all_is_as_before(self, caplog):
        filters = list(warnings.filters)
        with withheld(), withheld():
            speak()
        assert warnings.filters == filters
        logging.getLogger("pydicom").warning("outside")
        assert "outside" in caplog.text
        with pytest.warns(UserWarning, match="outside"):
            warnings.warn("outside", UserWarning, stacklevel=1)

    def test_a_handler_added_later_is_not_told_either(self):
        told = []
        handler = logging.Handler()
        handler.emit = told.append
        logger = logging.getLogger("pydicom")
        logger.addHandler(handler)
        with withheld():
            logger.warning(SECRET)
        assert not told
        logger.warning("outside")
        assert len(told) == 1
        handler.emit = lambda _record: None


class TestManyThreads:
    def test_each_counts_its_own(self):
        def read(number):
            noted = Counter()
            for turn in range(50):
                with withheld(noted, "odd"):
                    if (turn + number) % 2:
                        speak()
            return noted["odd"]

        filters = list(warnings.filters)
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(read, range(16))) == [25] * 16
        assert warnings.filters == filters

    def test_leaving_in_the_order_of_entering_puts_back_what_was(self):
        """With a filter saved per thread, the second to leave would restore the first's."""
        filters = list(warnings.filters)
        inside, leave = threading.Event(), threading.Event()

        def second():
            with withheld():
                inside.set()
                leave.wait(10)

        with ThreadPoolExecutor(1) as pool:
            with withheld():
                done = pool.submit(second)
                inside.wait(10)
            noted = Counter()
            with withheld(noted, "odd"):
                speak()
            leave.set()
            done.result()
        assert noted == {"odd": 1}
        assert warnings.filters == filters
        assert warnings.showwarning.__name__ != "withhold"
