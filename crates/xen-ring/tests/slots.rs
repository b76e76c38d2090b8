//! The ring of requests and responses against queues as its model, and against hostile indices.

mod common;

use common::TestMem;
use proptest::prelude::*;
use std::collections::VecDeque;
use xen_platform::IndexMemory;
use xen_ring::slots::{Back, Front, Shape};

/// Offsets of the fields (io/ring.h).
const REQ_PROD: usize = 0;
const RSP_PROD: usize = 8;

/// Eight slots of eight bytes.
fn shape() -> Shape {
    let shape = Shape::new(64 + 8 * 8 + 7, 8);
    assert_eq!(shape.slots(), 8);
    shape
}

fn page() -> TestMem {
    TestMem::new(64 + 8 * 8 + 7)
}

/// Starting indices, half of them so late that they wrap within the test.
fn start() -> impl Strategy<Value = u32> {
    prop_oneof![any::<u32>(), (0u32..40).prop_map(|before| 0u32.wrapping_sub(before))]
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Ask,
    PushRequests,
    TakeRequest,
    Answer,
    PushResponses,
    TakeResponse,
}

fn step() -> impl Strategy<Value = Step> {
    use Step::*;
    prop::sample::select(vec![Ask, PushRequests, TakeRequest, Answer, PushResponses, TakeResponse])
}

proptest! {
    #[test]
    fn requests_and_responses_pass_in_order(
        start in start(),
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let page = page();
        let mut front = Front::starting_at(shape(), &page, start);
        let mut back = Back::attach(shape(), &page).unwrap();
        // Asked and not shown, shown and not taken, taken and not answered, answered and not shown,
        // and so on.
        let mut queues: [VecDeque<u64>; 5] = Default::default();
        let mut next = 0u64;
        let moved = |queues: &mut [VecDeque<u64>; 5], from: usize| {
            let (left, right) = queues.split_at_mut(from + 1);
            right[0].extend(left[from].drain(..));
        };
        for step in steps {
            let mut bytes = [0; 8];
            match step {
                Step::Ask if front.free() > 0 => {
                    front.put(&page, &next.to_le_bytes());
                    queues[0].push_back(next);
                    next += 1;
                }
                Step::PushRequests => {
                    let _ = front.push(&page);
                    moved(&mut queues, 0);
                }
                Step::TakeRequest => {
                    let expected = queues[1].pop_front();
                    let taken = back.take(&page, &mut bytes).unwrap();
                    prop_assert_eq!(taken.then(|| u64::from_le_bytes(bytes)), expected);
                    queues[2].extend(expected);
                }
                // In any order: the last taken first.
                Step::Answer => if let Some(id) = queues[2].pop_back() {
                    back.put(&page, &(!id).to_le_bytes());
                    queues[3].push_back(id);
                },
                Step::PushResponses => {
                    let _ = back.push(&page);
                    moved(&mut queues, 3);
                }
                Step::TakeResponse => {
                    let taken = front.take(&page, &mut bytes).unwrap();
                    let taken = taken.then(|| !u64::from_le_bytes(bytes));
                    prop_assert_eq!(taken, queues[4].pop_front());
                }
                Step::Ask => {}
            }
            let open: usize = queues.iter().map(VecDeque::len).sum();
            prop_assert_eq!(front.in_flight() as usize, open);
            prop_assert_eq!(back.unanswered() as usize, queues[2].len());
        }
    }

    #[test]
    fn an_index_out_of_range_is_refused_and_nothing_taken(
        start in start(), asked in 0u32..=8, taken in 0u32..=8, lie in any::<u32>(),
    ) {
        let page = page();
        let mut front = Front::starting_at(shape(), &page, start);
        let mut back = Back::attach(shape(), &page).unwrap();
        let mut slot = [0; 8];
        for _ in 0..asked {
            front.put(&page, &slot);
        }
        let _ = front.push(&page);
        let taken = taken.min(asked);
        for _ in 0..taken {
            prop_assert!(back.take(&page, &mut slot).unwrap());
        }
        // The frontend has never been answered, so no more than `asked` responses can be there.
        page.store(RSP_PROD, start.wrapping_add(lie));
        let result = front.take(&page, &mut slot);
        prop_assert_eq!(result.is_ok(), lie <= asked, "{:?}", result);
        // The backend has answered nothing: there can be as many requests as there are slots. What
        // it has seen of `req_prod` cannot be taken back; it looks anew once it has taken all it
        // saw.
        page.store(REQ_PROD, start.wrapping_add(lie));
        let seen = if taken > 0 { asked } else { 0 };
        let result = back.arm(&page);
        prop_assert_eq!(result.is_ok(), (seen..=8).contains(&lie), "{:?}", result);
    }
}

#[test]
fn an_event_is_sent_exactly_when_it_was_asked_for() {
    let page = page();
    let mut front = Front::new(shape(), &page);
    let mut back = Back::attach(shape(), &page).unwrap();
    let mut slot = [0; 8];
    let mut ask = |count: u32, page: &TestMem| {
        (0..count).for_each(|_| front.put(page, &[7; 8]));
        front.push(page)
    };
    assert!(ask(1, &page), "a fresh ring asks for an event at its first request");
    assert!(!ask(2, &page), "the backend has not asked again");
    (0..3).for_each(|_| assert!(back.take(&page, &mut slot).unwrap()));
    assert!(!back.arm(&page).unwrap(), "all was taken");
    assert!(ask(2, &page));
    assert!(back.arm(&page).unwrap(), "two are there, so it must not sleep");
    // The frontend wants an event only at the third response.
    assert!(!front.arm(&page, 3).unwrap());
    (0..2).for_each(|_| back.put(&page, &[9; 8]));
    assert!(!back.push(&page));
    back.put(&page, &[9; 8]);
    assert!(back.push(&page));
    assert!(!back.push(&page), "nothing new");
}

#[test]
#[should_panic(expected = "a request for a full ring")]
fn a_full_ring_takes_no_request() {
    let page = page();
    let mut front = Front::new(shape(), &page);
    (0..9).for_each(|_| front.put(&page, &[0; 8]));
}

#[test]
#[should_panic(expected = "a response without a request")]
fn an_answer_needs_a_request() {
    let page = page();
    Front::new(shape(), &page);
    Back::attach(shape(), &page).unwrap().put(&page, &[0; 8]);
}
