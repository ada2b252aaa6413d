//! What every store must do: each promise of the trait's contract is one case, and each case is run against every
//! backend. What only one backend promises is beside it.

mod appends;
mod cancel;
mod documents;
#[cfg(feature = "dynamodb")]
pub mod dynamodb;
mod inventory;
mod ledger;
mod listing;
mod namespaces;
mod nodes;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(any(feature = "dynamodb", feature = "postgres"))]
mod proxy;
mod reads;
mod repeats;
mod sqlite;
mod state;
mod support;

use std::sync::Arc;

use salon::store::{Store, config::Durability};

/// Runs `case` against a new, empty store, and closes it. `None`: its server is not there, which has been said.
async fn run<Case, Running>(fresh: Option<support::Fresh>, case: Case)
where
    Case: FnOnce(Arc<dyn Store>) -> Running,
    Running: Future<Output = ()>,
{
    if let Some(fresh) = fresh {
        case(Arc::clone(&fresh.store)).await;
        fresh.finish().await;
    }
}

macro_rules! every_backend {
    ($($part:ident { $($case:ident)+ })+) => {
        every_backend!(@one memory, support::Fresh::memory(), $($part { $($case)+ })+);
        every_backend!(@one sqlite_fsync, support::Fresh::sqlite(Durability::Fsync), $($part { $($case)+ })+);
        every_backend!(@one sqlite_os, support::Fresh::sqlite(Durability::Os), $($part { $($case)+ })+);
        #[cfg(feature = "postgres")]
        every_backend!(@one on_postgres, support::Fresh::postgres(), $($part { $($case)+ })+);
        #[cfg(feature = "dynamodb")]
        every_backend!(@one on_dynamodb, support::Fresh::dynamodb(), $($part { $($case)+ })+);
    };
    (@one $backend:ident, $fresh:expr, $($part:ident { $($case:ident)+ })+) => {
        mod $backend {
            use super::*;
            $(mod $part {
                use super::*;
                $(
                    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $case() {
                        run($fresh.await, super::super::$part::$case).await;
                    }
                )+
            })+
        }
    };
}

every_backend! {
    appends {
        a_refused_append_leaves_nothing
        an_append_brings_all_of_its_parts
        appends_of_one_call_are_carried_out_each_for_itself
        positions_have_no_holes_with_64_appenders_to_one_room
        positions_have_no_holes_over_many_rooms
        the_fence_moves_with_the_records_that_move_it
        an_append_with_a_fence_needs_that_fence
        of_many_appends_with_one_fence_one_wins
        a_room_is_created_once
        a_creation_moves_the_fence_whatever_it_says
        an_unknown_room_takes_no_append
        an_append_of_nothing_is_refused
        an_append_of_many_records_and_bytes_is_whole
        a_call_of_many_appends_is_in_their_order
    }
    repeats {
        a_repeat_gets_the_first_receipt
        a_repeat_is_known_before_the_fence_is_looked_at
        a_hundred_repeats_at_once_append_once
        a_repeat_within_one_call_appends_once
        a_request_id_for_another_body_is_reused
        a_request_id_belongs_to_one_sender_in_one_room
        a_refused_append_does_not_use_up_its_request_id
        old_requests_are_forgotten_and_young_ones_kept
        many_requests_are_forgotten_at_once
    }
    reads {
        a_record_comes_back_as_it_was
        an_unknown_room_reads_as_nothing
        a_page_ends_at_its_number_of_events
        a_page_ends_at_its_bytes_but_has_one_event
        messages_are_paged_both_ways_in_ascending_order
        subjects_are_read_in_order_and_never_from_another_room
        unread_counts_others_messages_up_to_the_cap
        what_was_appended_is_seen_by_the_next_read
    }
    state {
        a_cursor_only_moves_forward
        a_cursor_moved_by_many_ends_at_the_furthest
        a_later_snapshot_wins
        a_large_snapshot_comes_back_as_it_was
        an_unknown_room_keeps_neither_cursor_nor_snapshot
        a_store_that_works_says_so
        a_closed_store_answers_nothing
    }
    listing {
        public_rooms_are_listed_newest_first
        private_rooms_are_listed_to_members_and_creators
        a_member_who_left_is_not_listed_the_room
        a_room_changes_its_list_with_its_visibility
        lists_are_paged_without_a_page_too_many
        runs_are_open_from_start_to_end
    }
    ledger {
        a_reservation_is_whole_or_absent
        a_limit_can_be_reached_and_not_passed
        of_64_reservations_for_one_place_one_gets_it
        reservations_and_settlements_at_once_stay_within_the_limit
        a_repeat_of_an_open_reservation_changes_nothing
        settling_moves_what_was_used_and_frees_the_rest
        settling_twice_or_the_unknown_changes_nothing
        more_than_was_reserved_is_recorded_and_stops_what_follows
        a_window_is_an_account_of_its_own
        accounts_are_forgotten_when_they_are_over_and_nothing_is_reserved
        many_accounts_are_forgotten_at_once
        a_reservation_without_sense_is_refused
        a_dropped_reservation_is_whole_or_absent
        a_settlement_waits_for_a_reservation_that_was_given_up
    }
    inventory {
        rooms_are_listed_in_the_order_of_their_creation
        keys_and_cursors_are_listed_for_their_room
        the_longest_names_are_listed_as_they_are
        members_are_listed_with_their_rooms
        accounts_are_listed_with_what_they_hold
    }
    nodes {
        a_lease_begins_with_the_first_beat_and_is_renewed_by_the_next
        a_lease_is_taken_away_by_who_knows_its_beat
        a_retired_node_never_comes_back
        of_a_beat_and_many_retirements_at_once_one_succeeds
        what_is_open_belongs_to_who_said_so_last
        appends_of_one_call_name_their_own_nodes
        a_reservation_says_who_holds_it
    }
    documents {
        a_document_has_a_revision_more_with_every_write
        a_document_that_is_not_as_expected_is_left_alone
        a_document_that_was_removed_begins_anew
        of_many_writes_that_expect_the_same_one_succeeds
        documents_are_paged_in_the_order_of_their_bytes
        folders_have_nothing_to_do_with_one_another
        a_document_may_have_its_size_and_no_more
        documents_are_listed_over_all_folders
    }
    namespaces {
        lists_are_those_of_one_namespace
        a_room_changes_the_lists_of_its_own_namespace
        a_list_of_a_small_namespace_is_paged_among_many_rooms
        rooms_of_one_name_share_nothing
        what_is_kept_is_listed_with_its_namespace
        memberships_are_counted_as_they_begin_and_end
        what_a_namespace_takes_is_counted_as_it_is_appended
    }
    cancel {
        a_dropped_append_is_whole_or_absent
        a_dropped_read_harms_nobody
    }
}
