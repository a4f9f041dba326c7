//! The lists of tests, and the macros that turn them into `#[test]` functions.

/// Makes a `#[test]` of each test of the suite but those with threads, on the given
/// [`Bench`](crate::bench::Bench), which must be in scope where the macro is used.
#[macro_export]
macro_rules! suite {
    ($bench:ident) => {
        $crate::tests! { $bench;
            creating {
                a_new_store_is_empty
                a_new_region_is_empty
                creating_twice_is_refused
                region_or_create_gives_the_same_region_twice
                ids_are_never_used_again
                a_name_is_free_again_after_removal
                many_small_regions
                names_of_any_length_up_to_the_limit
                names_with_odd_characters
                bad_names_are_refused_everywhere
                a_minimum_length_is_there_from_the_start
                a_minimum_length_also_lengthens_a_store_that_is_there
                a_length_that_no_machine_has_is_refused
                options_say_whether_a_store_may_be_made
                extreme_options_work
                a_journal_of_any_size_works
            }
            writing {
                an_append_answers_where_it_starts
                appending_within_the_capacity_moves_nothing
                exactly_the_capacity_stays_and_one_byte_more_grows
                an_overwrite_inside_keeps_the_length_and_the_rest
                an_overwrite_at_or_across_the_end_appends
                zero_bytes_change_nothing
                one_mebibyte_in_one_write
                sizes_from_four_bytes_to_ten_thousand_mixed
                sizes_around_every_power_of_two
                a_thousand_bytes_ten_times_grow_step_by_step
                many_small_writes_in_place
                replace_sets_the_whole_content
                past_the_end_is_an_error
                room_past_the_limit_is_refused
                reserving_changes_no_bytes
                an_appender_has_the_region_to_itself
                an_appender_takes_a_lot
            }
            truncating {
                shorter_equal_and_to_zero_work_and_longer_is_refused
                an_emptied_region_stays_readable_and_grows_again
                truncate_then_write_sets_the_length
                ten_alternations_of_truncating_and_writing
                what_was_cut_off_never_comes_back
                truncated_and_grown_again_between_two_flushes
            }
            placing {
                the_last_region_grows_where_it_is
                a_region_that_is_in_the_way_stays_and_the_other_moves
                a_region_grows_into_the_hole_behind_it
                a_new_region_takes_the_smallest_hole_that_fits
                a_hole_is_filled_by_a_region_of_its_size
                three_neighbours_removed_make_one_hole
                removed_space_is_not_used_before_a_flush
                the_file_does_not_grow_for_ever
                a_removed_region_is_gone_by_name_and_by_handle
                created_and_removed_between_two_flushes_leaves_no_trace
                retain_keeps_what_is_wanted
                removal_with_handles_alive_keeps_places_apart
                a_fragmentation_script_with_two_holes_of_which_one_is_filled
                a_life_cycle_with_remove_refill_grow_and_move
            }
            renaming {
                a_rename_keeps_bytes_place_id_and_handles
                a_taken_name_is_refused
                names_move_in_a_circle_within_one_flush
                a_name_passes_from_a_removed_region_to_another
                a_hundred_renames_with_flushes_and_checkpoints
                a_region_is_renamed_after_its_name_was_removed_and_made_again
            }
            reading {
                all_a_range_and_to_the_end
                out_of_range_is_an_error
                a_region_at_rest_is_one_slice_where_the_platform_maps
                a_cursor_reads_and_seeks
                readers_outlive_handle_and_store_and_live_in_structs
                a_reader_sees_no_append
                a_reader_sees_no_overwrite
                a_reader_sees_no_truncation
                a_reader_sees_no_replacement
                a_reader_sees_no_growth_and_no_move
                a_reader_sees_no_removal
                readers_of_many_moments_each_see_their_own
                a_reader_and_its_owner_never_wait_for_each_other
            }
            flushing {
                what_was_flushed_is_there_and_what_was_not_is_gone
                closing_flushes
                three_flushes_and_reopening_after_each
                the_store_keeps_its_id
                a_process_that_dies_anywhere_leaves_one_state_or_the_other
                a_process_that_dies_in_large_flushes_leaves_one_state_or_the_other
                a_process_that_dies_in_checkpoints_leaves_one_state_or_the_other
                a_flush_to_the_kernel_survives_the_process
                a_small_flush_is_one_sync
                many_small_flushes_are_one_sync_each
                a_large_flush_is_two_syncs
                a_checkpoint_is_three_syncs
                a_flush_with_nothing_to_do_costs_nothing
                opening_writes_nothing_and_the_first_change_costs_three_syncs
                a_kernel_flush_is_made_durable_by_the_next_flush
                cost_follows_change_not_size
                eight_bytes_to_each_of_many_regions_do_not_cost_a_page_each
                the_same_calls_give_the_same_bytes
                a_hold_keeps_several_calls_in_one_flush
                a_hold_as_the_first_thing_after_opening
                a_thousand_flushes_through_many_generations
            }
            failing {
                a_failed_sync_is_final_wherever_it_happens
                a_failed_write_loses_nothing_wherever_it_happens
                a_failed_read_loses_nothing_wherever_it_happens
                a_failed_growth_loses_nothing_wherever_it_happens
                a_disk_that_is_full_from_any_call_on_loses_nothing
                a_disk_that_is_full_even_for_syncs_loses_nothing_acknowledged
                where_mapping_fails_readers_read
                opening_that_fails_can_be_repeated
                readers_go_on_after_a_failed_sync
            }
            refusing {
                a_store_opened_for_reading_refuses_every_change
                a_platform_that_cannot_be_written_opens_for_reading
                no_store_is_made_for_reading
                a_second_writer_is_refused
                bytes_that_are_no_store_are_refused_and_kept
                zeros_with_something_behind_them_are_not_overwritten
                a_newer_store_is_refused
                features_that_forbid_writing_allow_reading
            }
            damaging {
                flipping_any_bit_of_a_fresh_store
                flipping_any_bit_after_two_flushes
                flipping_any_bit_after_every_kind_of_change
                flipping_any_bit_after_a_checkpoint
                flipping_any_bit_after_many_generations
                cutting_a_fresh_store_anywhere
                cutting_after_two_flushes_anywhere
                cutting_after_every_kind_of_change_anywhere
                cutting_after_a_checkpoint_anywhere
                cutting_after_many_generations_anywhere
                flipping_any_bit_after_a_generation_was_overtaken
                cutting_after_a_generation_was_overtaken_anywhere
                whatever_opens_after_a_flip_goes_on_rightly
                zeroing_or_garbling_any_page
            }
            compacting {
                compacting_shortens_the_file_and_keeps_every_byte
                compacting_an_empty_or_compact_store_does_nothing
                truncating_and_compacting_keeps_the_length_and_gives_room_back
                each_step_of_a_compaction_leaves_the_whole_store
                a_compaction_can_be_broken_off
                readers_and_changes_go_on_during_a_compaction
                a_compaction_is_refused_where_changes_are
                a_compaction_that_fails_anywhere_loses_nothing
                usage_adds_up_after_every_change
                removed_space_becomes_holes
                verification_finds_a_flip_in_the_metadata
                a_copy_is_compact_and_the_same
                statistics_count
            }
        }
    };
}

/// Makes a `#[test]` of each test with threads.
#[macro_export]
macro_rules! thread_suite {
    ($bench:ident) => {
        $crate::tests! { $bench;
            threads {
                ten_threads_create_ten_regions
                one_of_many_creators_of_a_name_wins
                no_append_of_several_threads_is_lost_or_mixed
                no_flushed_state_has_b_without_a
                a_hold_of_one_thread_keeps_the_flushes_of_others_out
                whoever_holds_the_cut_may_do_anything_but_flush
                whoever_holds_the_cut_may_ask_for_anything
                concurrent_flushes_share_syncs
                twenty_readers_beside_a_writer_see_whole_states
                two_readers_and_two_writers_never_wait_for_each_other
                renaming_from_many_threads
                creating_and_removing_beside_flushes_and_checkpoints
            }
        }
    };
}

/// Makes `#[test]` functions of generic ones.
#[doc(hidden)]
#[macro_export]
macro_rules! tests {
    ($bench:ident; $($module:ident { $($name:ident)* })*) => {
        $(mod $module {
            $(#[test]
            fn $name() {
                $crate::$module::$name::<super::$bench>();
            })*
        })*
    };
}

#[cfg(test)]
mod tests {
    /// A test that is in no list would never run.
    #[test]
    fn every_test_is_in_a_list() {
        let list = include_str!("list.rs");
        let modules = [
            include_str!("creating.rs"),
            include_str!("writing.rs"),
            include_str!("truncating.rs"),
            include_str!("placing.rs"),
            include_str!("renaming.rs"),
            include_str!("reading.rs"),
            include_str!("flushing.rs"),
            include_str!("failing.rs"),
            include_str!("refusing.rs"),
            include_str!("damaging.rs"),
            include_str!("compacting.rs"),
            include_str!("threads.rs"),
        ];
        let mut count = 0;
        for line in modules.iter().flat_map(|module| module.lines()) {
            let Some((name, _)) =
                line.strip_prefix("pub fn ").and_then(|rest| rest.split_once("<B: Bench>()"))
            else {
                continue;
            };
            count += 1;
            assert!(list.lines().any(|line| line.trim() == name), "{name} is in no list");
        }
        assert!(count > 100);
    }
}
