//! The oracle lets pass what may be, and nothing else.

use nic_wire::Time;

use super::extent::{View, word, written};
use super::{Calls, Chain, Counter, Extent, Order, calls};

/// The op of a stream, perhaps behind a fence.
fn order(sequence: u64, fence: bool) -> Order {
    Order { stream: (1, 0, 0), sequence, fence }
}

const NOW: Time = Time::from_ns(1000);

/// A counter that two adds were asked of.
fn counter() -> Counter {
    let mut counter = Counter::default();
    assert_eq!((counter.ask(), counter.ask()), (0, 0));
    counter
}

#[test]
fn adds_in_any_order() {
    let mut counter = counter();
    counter.executed(0, 1, order(1, false));
    counter.observed(2, 2);
    counter.executed(0, 0, order(2, false));
    assert_eq!((counter.floor(), counter.ask()), (2, 2));
}

#[test]
#[should_panic(expected = "two adds have found 0")]
fn an_add_that_ran_beside_another_but_not_after_it() {
    let mut counter = counter();
    counter.executed(0, 0, order(1, false));
    counter.executed(0, 0, order(2, false));
}

#[test]
#[should_panic(expected = "the word is 3 after at most 2 adds")]
fn an_add_that_ran_twice() {
    counter().observed(0, 3);
}

#[test]
#[should_panic(expected = "the word has reached 2 with 1 adds")]
fn an_add_that_ran_and_is_said_not_to_have() {
    let mut counter = counter();
    counter.observed(0, 2);
    counter.refused();
}

#[test]
#[should_panic(expected = "found 0 behind")]
fn an_add_that_ran_before_its_fence() {
    let mut counter = counter();
    counter.executed(0, 1, order(1, false));
    counter.executed(0, 0, order(2, true));
}

#[test]
fn swaps_along_a_path() {
    let mut chain = Chain::new(5);
    assert_eq!([chain.ask(5, 6), chain.ask(6, 7), chain.ask(5, 8)], [0, 0, 0]);
    // The first swap's end is not known yet, but the second ran.
    chain.executed(0, (6, 7), 6, order(2, false));
    chain.executed(0, (5, 8), 7, order(3, false));
    assert_eq!([chain.known(0), chain.known(1), chain.known(9)], [7, 6, 5]);
    chain.executed(0, (5, 6), 5, order(1, false));
}

#[test]
#[should_panic(expected = "two values were swapped in for one")]
fn two_swaps_of_one_value() {
    let mut chain = Chain::new(5);
    chain.ask(5, 6);
    chain.ask(5, 7);
    chain.executed(0, (5, 6), 5, order(1, false));
    chain.executed(0, (5, 7), 5, order(2, false));
}

#[test]
#[should_panic(expected = "what only it can have written")]
fn a_swap_that_ran_twice() {
    let mut chain = Chain::new(5);
    chain.ask(5, 6);
    chain.executed(0, (5, 6), 6, order(1, false));
}

#[test]
#[should_panic(expected = "by an op that never ran")]
fn a_swap_that_ran_and_is_said_not_to_have() {
    let mut chain = Chain::new(5);
    chain.ask(5, 6);
    chain.refused(6);
    chain.observed(0, 6);
}

/// An extent of two words with two WRITEs under way, of which the second has a fence.
fn extent() -> Extent {
    let mut extent = Extent::new(0, 16);
    extent.ask(1, 0, 16, 1, order(1, false));
    extent.ask(2, 0, 16, 2, order(2, true));
    extent
}

/// Looks at all of it.
fn look(extent: &mut Extent, begun: u64, words: [u64; 2]) {
    let bytes: Vec<u8> =
        (0..2).zip(words).flat_map(|(n, tag)| word(tag, n).to_le_bytes()).collect();
    extent.look(&View { from: 0, begun, over: begun + 1, order: None }, &bytes, NOW);
}

#[test]
fn writes_under_way_may_show_in_any_mixture() {
    for words in [[0, 0], [1, 0], [2, 1], [1, 2], [2, 2]] {
        look(&mut extent(), 3, words);
    }
}

#[test]
#[should_panic(expected = "byte 8 of the extent")]
fn a_word_from_before_a_write_that_was_over() {
    let mut extent = extent();
    extent.executed(1, 3, 3);
    look(&mut extent, 4, [1, 0]);
}

#[test]
#[should_panic(expected = "byte 0 of the extent")]
fn a_write_that_ran_and_is_said_not_to_have() {
    let mut extent = extent();
    extent.refused(2);
    look(&mut extent, 4, [2, 0]);
}

#[test]
#[should_panic(expected = "was seen, and is said not to have run")]
fn a_write_that_was_seen_and_is_said_not_to_have_run() {
    let mut extent = extent();
    look(&mut extent, 4, [2, 0]);
    extent.refused(2);
}

#[test]
#[should_panic(expected = "byte 0 of the extent")]
fn a_write_that_ran_behind_what_its_fence_stood_before() {
    let mut extent = extent();
    extent.executed(2, 3, 1);
    extent.executed(1, 4, 1);
    look(&mut extent, 5, [1, 2]);
}

#[test]
#[should_panic(expected = "byte 0 of the extent")]
fn a_write_that_comes_back_after_another_was_seen() {
    let mut extent = extent();
    extent.executed(1, 3, 1);
    look(&mut extent, 4, [2, 2]);
    look(&mut extent, 6, [1, 2]);
}

#[test]
fn an_unknown_write_may_come_late() {
    let mut extent = extent();
    extent.unknown(1, NOW);
    extent.executed(2, 3, 3);
    look(&mut extent, 4, [2, 2]);
    look(&mut extent, 6, [1, 1]);
}

#[test]
#[should_panic(expected = "byte 0 of the extent")]
fn an_unknown_write_must_not_come_after_its_time() {
    let mut extent = extent();
    extent.unknown(1, Time::from_ns(999));
    look(&mut extent, 3, [0, 0]);
    extent.ask(3, 0, 16, 5, order(3, false));
    extent.executed(3, 6, 6);
    look(&mut extent, 7, [1, 3]);
}

#[test]
fn the_rest_of_a_word_stays_another_writes() {
    let mut extent = extent();
    extent.executed(1, 3, 3);
    extent.refused(2);
    extent.ask(0x5555, 0, 11, 4, order(3, false));
    extent.executed(0x5555, 5, 5);
    let mut bytes = written(1, 0, 16);
    bytes[..11].copy_from_slice(&written(0x5555, 0, 11));
    extent.look(&View { from: 0, begun: 6, over: 7, order: None }, &bytes, NOW);
}

#[test]
#[should_panic(expected = "is delivered again")]
fn a_call_that_is_delivered_twice() {
    let mut calls = Calls::default();
    calls.ask(4);
    calls.deliver(&calls::request(4), NOW);
    calls.deliver(&calls::request(4), NOW);
}

#[test]
#[should_panic(expected = "is said not to have run")]
fn a_call_that_was_delivered_and_is_said_not_to_have_run() {
    let mut calls = Calls::default();
    calls.ask(4);
    calls.deliver(&calls::request(4), NOW);
    calls.refused(4);
}
