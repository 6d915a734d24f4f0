"""What SECURITY.md promises, and the tests that hold it: each promise has some, and each that is named is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOSTILE, SHOWN, CHECKPOINT = "converter/test_hostile.py", "converter/test_shown.py", "converter/checkpoint"
WRITE, INTERRUPTED = "converter/convert/test_write.py", "converter/convert/test_interrupted.py"
PROCESS = "converter/verify/test_model_process.py"
ATTACKS, SHIPPED = "converter/verify/test_attacks.py", "modeling/test_shipped_code.py"

TESTS = {
    "Nothing is run": [
        (f"{CHECKPOINT}/test_hostile_bases.py", "test_a_base_that_means_something_else"),
        ("converter/presets/test_hostile_presets.py", "test_presets"),
        (HOSTILE, "test_no_pickle_is_copied"),
    ],
    "No pickle is opened": [
        (f"{CHECKPOINT}/test_hostile_bases.py", "test_no_pickle_is_carried"),
        (HOSTILE, "test_no_pickle_is_copied"),
        (ATTACKS, "test_a_tampered_folder_is_bad"),
    ],
    "Weights are safetensors": [
        (f"{CHECKPOINT}/test_read.py", "test_no_weights_are_read"),
        (f"{CHECKPOINT}/test_read.py", "test_weights_that_are_refused"),
        (HOSTILE, "test_headers"),
    ],
    "Paths stay inside": [
        (f"{CHECKPOINT}/test_read.py", "test_links_out_of_the_folder_are_refused"),
        (f"{CHECKPOINT}/test_read.py", "test_a_second_hop_leads_nowhere"),
        (HOSTILE, "test_names_in_an_index"),
        (ATTACKS, "test_nothing_outside_is_opened"),
        (ATTACKS, "test_upgrade_deletes_and_writes_nothing_outside"),
    ],
    "Time and memory are bounded": [
        (HOSTILE, "test_large_files_take_bounded_memory"),
        (HOSTILE, "test_tensors_of_all_files_are_bounded_together"),
        (SHOWN, "test_a_body_that_does_not_end_is_given_up"),
        (SHOWN, "test_the_client_gives_up_a_body_that_does_not_end"),
    ],
    "Keys of `config.json`": [
        (f"{CHECKPOINT}/test_config_keys.py", "test_nothing_of_elsewhere_is_known"),
        (f"{CHECKPOINT}/test_hostile_bases.py", "test_keys_of_elsewhere_are_dropped_and_said"),
        (ATTACKS, "test_a_tampered_folder_is_bad"),
    ],
    "Control characters": [
        (SHOWN, "test_no_control_character_of_a_result_is_shown"),
        (SHOWN, "test_no_cell_is_a_formula"),
        (SHOWN, "test_a_card_holds_no_markup_of_others"),
        (
            "converter/converted/test_hostile_folders.py",
            "test_verify_prints_neither_control_characters_nor_lines_of_others",
        ),
    ],
    "Tokens are masked": [
        (SHOWN, "test_tokens_are_masked"),
        (SHOWN, "test_an_answer_that_makes_no_sense_is_one_message"),
    ],
    "The source is never changed": [
        (INTERRUPTED, "test_edits_of_an_output_do_not_reach_the_cache"),
        (INTERRUPTED, "test_of_a_folder_the_weights_alone_are_shared"),
        (INTERRUPTED, "test_the_summary_says_what_is_shared"),
    ],
    "An output is complete or absent": [
        (INTERRUPTED, "test_kills"),
        (INTERRUPTED, "test_a_disk_that_fills_up"),
        (WRITE, "test_signals_leave_nothing"),
        (INTERRUPTED, "test_the_old_output_is_never_gone"),
    ],
    "A source that changes": [(INTERRUPTED, "test_a_source_that_changes_after_it_was_checked")],
    "Nothing is written outside": [
        (WRITE, "test_nothing_is_left_behind"),
        (WRITE, "test_parents_are_made_and_removed_again"),
    ],
    "`--force` replaces only": [
        ("converter/convert/test_outputs.py", "test_force_replaces_nothing_that_ropext_did_not_write"),
        ("converter/convert/test_outputs.py", "test_force_replaces_no_file_that_was_edited"),
        ("converter/convert/test_outputs.py", "test_force_drops_no_section_that_somebody_put_into_the_card"),
        ("converter/evaluation/test_report_card.py", "test_results_in_a_card_are_not_lost"),
    ],
    "It is this repository's": [
        ("converter/verify/test_changed.py", "test_changed_code"),
        (ATTACKS, "test_a_tampered_folder_is_bad"),
    ],
    "`verify` says `good` only": [
        (ATTACKS, "test_what_is_not_known_is_not_good"),
        (ATTACKS, "test_an_honest_folder_is_good"),
        (ATTACKS, "test_however_the_weights_were_linked"),
        ("converter/verify/test_loaded_files.py", "test_all_that_is_opened_is_known"),
    ],
    "`verify` builds and runs": [
        (PROCESS, "test_a_model_without_end_is_given_up"),
        (PROCESS, "test_a_model_that_takes_all_memory_is_given_up"),
        (PROCESS, "test_what_is_no_answer_is_no_check"),
        (PROCESS, "test_the_process_ends_with_its_parent"),
        (PROCESS, "test_nothing_is_imported_from_the_folder"),
    ],
    "`mlx_rope_ext.py`, which mlx-lm runs": [
        ("serving/test_mlx.py", "test_what_the_file_may_do"),
        ("serving/test_mlx.py", "test_trust_is_asked_for"),
    ],
    "It imports `torch`": [
        (SHIPPED, "test_imports_torch_transformers_and_siblings_only"),
        (SHIPPED, "test_reaches_no_files_processes_or_other_code"),
    ],
}


def promises():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    promised = text[text.index("## What is promised") : text.index("## What is not")]
    return re.findall(r"^- (.*)$", promised, re.MULTILINE)


def test_every_promise_has_tests():
    said = promises()
    assert [promise for promise in said if not any(promise.startswith(start) for start in TESTS)] == []
    assert [start for start in TESTS if not any(promise.startswith(start) for promise in said)] == []


@pytest.mark.parametrize("promise", TESTS)
def test_the_tests_of_a_promise_are_there(promise):
    for file, name in TESTS[promise]:
        assert f"\ndef {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), f"{file}: {name}"
