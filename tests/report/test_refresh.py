"""The report beside a run that is training."""

import logging
import pathlib

from gqst.report import page, refresh


def test_it_is_written_in_the_background_and_at_the_end(workdir: pathlib.Path):
    refresher = refresh.Refresher(workdir)
    refresher()
    refresher.close()
    assert (workdir / page.FILE).exists()


def test_it_is_not_written_again_within_a_short_time(workdir: pathlib.Path, monkeypatch):
    written, now = [], [0.0]

    def write(folder: pathlib.Path, *, place: pathlib.Path | None) -> None:
        written.append(now[0])
        now[0] += 2.0

    monkeypatch.setattr(page, "write", write)
    monkeypatch.setattr(refresh.time, "monotonic", lambda: now[0])
    refresher = refresh.Refresher(workdir)
    for moment in (0.0, 10.0, 201.0, 202.1):
        now[0] = max(moment, now[0])
        refresher()
        if refresher._thread is not None:
            refresher._thread.join()
    # Two seconds of work, at most a hundredth of the time: not before 2 + 200.
    assert written == [0.0, 202.1]
    refresher.close()
    assert len(written) == 3


def test_a_page_that_cannot_be_written_is_told_once_and_ends_nothing(tmp_path: pathlib.Path, caplog):
    refresher = refresh.Refresher(tmp_path / "gone")
    with caplog.at_level(logging.WARNING, logger="gqst"):
        refresher()
        refresher.close()
    assert len(caplog.records) == 1 and "report.html cannot be written" in caplog.records[0].getMessage()
