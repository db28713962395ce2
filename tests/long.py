"""Tests that `make test` leaves out and `make test-long` runs, because others test the same code in less time.

An entry is a test, with or without its parameters. What remains in `make test` covers each of them with another
network, engine, file format or interruption.
"""

LONG = {
    "analysis/report/test_browser.py": (
        "test_a_screenshot_from_the_command_line_shows_the_molecule",
        "test_everything_can_be_read_at_any_width[between]",
        "test_molecule_is_drawn_in_three_dimensions[dark]",
        "test_opens_without_a_complaint_in_the_colors_of_the_page[dark]",
        "test_nothing_sticks_out_on_a_phone[390]",
    ),
    "benchmarks/test_gpu_check.py": ("test_all_parts_in_small",),
    "cli/test_distillation.py": ("test_teacher_labels_student_export",),
    "cli/test_export.py": (
        "test_a_compiled_file_runs_in_both_engines",
        "test_a_network_that_breaks_a_law_is_exported_for_openmm_only_if_this_is_accepted",
    ),
    "cli/test_full_disk.py": (
        "test_a_trained_file_and_no_room_for_temporary_files",
        "test_commands_on_a_full_disk[evaluate]",
        "test_commands_on_a_full_disk[label]",
    ),
    "cli/test_import.py": ("test_evaluate_fine_tune_export_and_dynamics[mace_residual]",),
    "cli/test_md_disk.py": ("test_a_full_disk_ends_a_run_that_can_be_continued[dcd]",),
    "cli/test_md_follow.py": ("test_on_a_terminal_there_are_bars",),
    "cli/test_md_replicas.py": ("test_bad_input_is_one_line[arguments3-no Dask scheduler at tcp://127.0.0.1:9]",),
    "cli/test_streams.py": ("test_a_run_continues_if_messages_cannot_be_printed[>&- 2>&-]",),
    "cli/test_tune.py": ("test_two_workers_on_one_storage_do_each_trial_once",),
    "compat/test_aotinductor.py": (
        "test_a_package_is_compiled_and_loaded",
        "test_two_runners_of_a_package_give_the_same",
    ),
    "data/labeling/test_dask.py": ("test_trajectories_are_the_same_on_a_cluster",),
    "data/labeling/test_ensemble.py": (
        "test_files_and_the_directory_of_an_ensemble",
        "test_sampled_frames_keep_the_spread",
    ),
    "data/labeling/test_structures.py": ("test_processes_that_die_and_files_that_meet",),
    "export/test_charge.py": (
        "test_compiled_files",
        "test_files_for_openmm_fix_the_charge[cell-so3lr]",
    ),
    "export/test_damage.py": (
        "test_a_byte_that_flips[1-packed]",
        "test_a_byte_that_flips[1-several_heads]",
        "test_a_byte_that_flips[1-statistics]",
    ),
    "export/test_exporter.py": (
        "test_the_general_form_equals_the_model_for_any_structure[equiformer_v2]",
        "test_the_general_form_equals_the_model_for_any_structure[escn]",
        "test_the_molecule_form_equals_the_model[ace-float64]",
        "test_the_molecule_form_equals_the_model[equiformer_v2-float64]",
        "test_the_molecule_form_equals_the_model[schnet-float32]",
        "test_the_molecule_form_equals_the_model[tensornet-float64]",
    ),
    "export/test_replica_evaluation.py": (
        "test_all_networks_are_verified_with_copies[escn-float32]",
        "test_all_networks_are_verified_with_copies[painn-float64]",
        "test_an_ensemble_of_copies[direct]",
    ),
    "fuzz/test_short.py": (
        "test_many_altered_files",
        "test_slow_kinds_and_bombs[compiled]",
        "test_slow_kinds_and_bombs[trajectory-gro]",
        "test_slow_kinds_and_bombs[trajectory-mdcrd]",
        "test_slow_kinds_and_bombs[trajectory-trr]",
    ),
    "interfaces/openmm/test_probe.py": (
        "test_real_networks_give_the_same_in_openmm[ace-CH3CH2OH]",
        "test_real_networks_give_the_same_in_openmm[equiformer_v2-CH3CH2OH]",
        "test_real_networks_give_the_same_in_openmm[escn-CH3CH2OH]",
        "test_real_networks_give_the_same_in_openmm[tensornet-CH3CH2OH]",
    ),
    "interfaces/test_charge.py": ("test_dynamics[options1]", "test_dynamics[options2]"),
    "interfaces/test_ml_mm_example.py": ("test_aspirin_in_water_runs",),
    "interfaces/test_openmm_ml.py": (
        "test_a_mixed_system_lives_on_in_a_new_process[python-False-openmm]",
        "test_a_mixed_system_lives_on_in_a_new_process[python-True-openmm]",
    ),
    "learning/test_dynamics.py": (
        "test_a_cluster_runs_the_same_replicas",
        "test_an_interrupted_run_is_not_a_survival_and_goes_on[SIGTERM]",
    ),
    "md/replicas/test_distributed.py": ("test_a_killed_worker_loses_nothing",),
    "models/networks/test_harmonic_networks.py": ("test_the_laws_of_a_potential[*-sizes3-dtype3]",),
    "models/networks/test_tensor_networks.py": ("test_the_laws_of_a_potential[gaussian-dtype2-*]",),
    "models/priors/test_walls.py": (
        "test_the_compiled_form_agrees_with_the_potential_outside_the_ranges",
        "test_a_compiled_general_file_agrees_with_the_potential",
        "test_any_order_of_the_atoms_that_the_bonds_determine_gives_the_same_results[inside-order0]",
        "test_any_order_of_the_atoms_that_the_bonds_determine_gives_the_same_results[outside-order1]",
    ),
    "models/priors/test_zbl.py": (
        "test_every_torchscript_form_agrees_with_the_potential_for_close_atoms[float64-conservative-H2O]",
        "test_every_torchscript_form_agrees_with_the_potential_for_close_atoms[float64-direct-CH3OH]",
    ),
    "physics/test_ensembles.py": (
        "test_both_barostats_keep_the_same_volume",
        "test_the_kinetic_energy_is_canonical[fixed1-ase-*]",
        "test_the_temperature_can_be_changed[ase-nvt-nose-hoover]",
    ),
    "runs/test_process_settings.py": (
        "test_jobs_follow_each_other_in_any_order",
        "test_large_blocks_lie_on_huge_pages",
        "test_the_allocator_keeps_blocks_within_a_job_only",
    ),
    "test_pretended_gpu.py": ("test_the_forms_of_a_molecule[1]",),
    "test_testing.py": ("test_a_cosine_cutoff_in_our_own_networks_is_found[*-dtype1]",),
    "training/test_blocks.py": ("test_a_run_with_layer_decay_and_lora_resumes_to_the_same_weights",),
    "training/test_ensemble.py": ("test_two_processes_train_the_same_ensemble",),
    "training/test_memory.py": ("test_large_blocks_come_from_the_heap",),
    "training/test_replay.py": ("test_a_run_with_replay_resumes_to_the_same_weights[5]",),
    "training/test_run_modes.py": ("test_reading_ahead_changes_nothing",),
    "training/test_step_memory.py": ("test_the_estimate_is_right_within_a_factor_of_two",),
    "training/test_teacher.py": (
        "test_energies_of_labels_and_forces_of_a_teacher[terms0]",
        "test_energies_of_labels_and_forces_of_a_teacher[terms1]",
    ),
    "trajectories/test_damaged.py": ("test_noise_in_compressed_positions_is_an_error_or_other_positions",),
    "trajectories/test_frame_source.py": ("test_memory_does_not_grow_with_the_frames",),
}


def is_long(file: str, name: str) -> bool:
    """Return whether a test is left to `make test-long`, by its file below `tests` and its name with parameters."""
    return any(_matches(name, entry) for entry in LONG.get(file, ()))


def _matches(name: str, entry: str) -> bool:
    before, star, after = entry.partition("*")
    if star:
        return name.startswith(before) and name.endswith(after)
    return entry in (name, name.partition("[")[0])
