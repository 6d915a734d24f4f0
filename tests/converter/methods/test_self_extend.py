"""SelfExtend: the rule for its group size."""

import pytest

from ropext.converter.methods.self_extend import METHOD, group_size, reach


@pytest.mark.parametrize(
    ("trained", "target", "published"),
    [(4096, 16384, 16), (8192, 16384, 6)],  # the authors for Llama 2 and Mistral, local window 1024
)
def test_group_sizes_are_near_the_published_ones(trained, target, published):
    assert abs(group_size(trained, target, 1024) - published) <= 1


def test_a_group_size_is_the_smallest_that_keeps_to_half_of_the_trained_length():
    for trained, target, window in [(4096, 16384, 1024), (8192, 131072, 1024), (2048, 8192, 512)]:
        group = group_size(trained, target, window)
        assert window + (target - window) / group <= trained / 2 < window + (target - window) / (group - 1)


def test_a_group_size_is_no_smaller_than_the_target_needs():
    for trained, target, window in [(4096, 16384, 1024), (64, 256, 16), (64, 256, 63)]:
        assert reach(trained, group_size(trained, target, window), window) >= target


@pytest.mark.parametrize("window", [None, 0, 64, 1.5, True])
def test_nothing_follows_from_a_window_that_is_wrong(window):
    assert METHOD.following({"local_window": window}, 64, 256) == {}
