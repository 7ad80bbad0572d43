"""Copies in processes of their own give what one backend gives."""

import time

import pytest

from ttc_env.measure.backends import make_backend
from ttc_env.measure.backends.base import SEED_STRIDE, Request, Sampling
from ttc_env.measure.backends.replicas import device_slices


def test_copies_change_nothing_but_the_speed():
    prompts, seeds = [f"{i}+{i}*3:" for i in range(5)], [i * SEED_STRIDE for i in range(5)]
    alone = make_backend("fake", "m").generate(prompts, Sampling(n=4), seeds)
    copies = make_backend("fake", "m", data_parallel=2)
    try:
        assert copies.generate(prompts, Sampling(n=4), seeds) == alone
        # one copy has nothing to do
        assert copies.generate(prompts[:1], Sampling(n=4), seeds[:1]) == alone[:1]
        assert copies.describe()["hardware"] == "2 x none"
    finally:
        copies.close()


def test_a_request_goes_to_the_copy_with_the_least_to_do():
    prompts, seeds = [f"{i}+{i}*3:" for i in range(5)], [i * SEED_STRIDE for i in range(5)]
    alone = make_backend("fake", "m").generate(prompts, Sampling(n=4), seeds)
    copies = make_backend("fake", "m", data_parallel=2)
    try:
        assert copies.lanes(4) == 4
        big = copies.submit(Request(tuple(prompts), Sampling(n=4), tuple(seeds)))
        small = [
            copies.submit(Request((prompts[i],), Sampling(n=4), (seeds[i],))) for i in range(3)
        ]
        placed = {ticket: copy for ticket, (copy, _) in copies._running.items()}
        assert placed[big] == 0
        assert {placed[ticket] for ticket in small} == {1}
        assert copies.decode([ord("a"), ord("b")]) == "ab"  # asked while samples are under way
        ended = {}
        while len(ended) < 4:
            ended |= dict(copies.advance())
        assert ended[big] == alone
        assert [ended[ticket][0] for ticket in small] == alone[:3]
        assert copies._load == [0, 0]
        copies.submit(Request((prompts[0],), Sampling(n=4), (seeds[0],)))
        copies.abandon()
        assert (
            copies.generate(prompts, Sampling(n=4), seeds) == alone
        )  # and what was given up is gone
    finally:
        copies.close()


def test_a_copy_that_fails_says_why():
    with pytest.raises(RuntimeError, match="unexpected keyword argument 'colour'"):
        make_backend("fake", "m", data_parallel=2, colour="red")


def test_device_slices():
    assert device_slices(2, 2, None) == ["0,1", "2,3"]
    assert device_slices(2, 1, "5,7,9") == ["5", "7"]
    with pytest.raises(ValueError, match="ask for fewer"):
        device_slices(2, 2, "0,1,2")


def test_copies_at_work_are_stopped_within_seconds(monkeypatch):
    """They ignore Ctrl-C, which is the parent's; closing waited half a minute for each."""
    monkeypatch.setattr("ttc_env.measure.backends.replicas.PATIENCE", 0.5)
    copies = make_backend("fake", "m", data_parallel=2)
    processes = [process for process, _ in copies._workers]
    many = [f"1{'+1' * 4000}:"] * 400
    seeds = [i * SEED_STRIDE for i in range(len(many))]
    for _ in copies._workers:
        copies.submit(Request(tuple(many), Sampling(n=64), tuple(seeds)))
    time.sleep(0.5)
    assert all(process.is_alive() for process in processes)
    began = time.monotonic()
    copies.close()
    assert time.monotonic() - began < 10
    assert not any(process.is_alive() for process in processes)
