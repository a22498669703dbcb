//! The two sides of an AF_XDP ring: nothing is lost, doubled, overtaken or torn, in any order of their
//! steps.

use loom::thread;
use turnwire_loom::sync::Arc;
use turnwire_loom::xsk::{Consumer, Producer, Ring};

/// Indices wrap in the midst of it.
const START: u32 = u32::MAX;

fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

/// One side writes `count` numbers, `batch` at a time; the other takes what there is.
fn all_arrive_in_order(count: u32, batch: u32) {
    let ring = Ring::new(START);
    let mut consumer = Consumer::new(&ring);
    let shared = Arc::clone(&ring);
    let writing = thread::spawn(move || {
        let mut producer = Producer::new(&shared);
        let mut next = 1;
        while next <= count {
            let until = count.min(next + batch - 1);
            while next <= until && producer.put(next) {
                next += 1;
            }
            producer.publish();
            thread::yield_now();
        }
    });
    let mut expected = 1;
    while expected <= count {
        while let Some(number) = consumer.take() {
            assert_eq!(number, expected, "out of order");
            expected += 1;
        }
        consumer.release();
        thread::yield_now();
    }
    writing.join().expect("the writer ends");
    assert_eq!(consumer.take(), None, "more than was put in");
}

#[test]
fn entries_arrive_whole_and_in_order_one_by_one() {
    model(|| all_arrive_in_order(3, 1));
}

#[test]
fn entries_arrive_whole_and_in_order_in_batches() {
    model(|| all_arrive_in_order(4, 2));
}

#[test]
fn what_is_not_published_is_not_seen_and_a_full_ring_takes_no_more() {
    model(|| {
        let ring = Ring::new(START);
        let (mut producer, mut consumer) = (Producer::new(&ring), Consumer::new(&ring));
        assert!(producer.put(1) && producer.put(2) && !producer.put(3));
        assert_eq!(consumer.take(), None);
        producer.publish();
        assert_eq!((consumer.take(), consumer.take(), consumer.take()), (Some(1), Some(2), None));
        assert!(!producer.put(3), "taken, but not released");
        consumer.release();
        assert!(producer.put(3));
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn reading_without_the_producer_s_index_would_be_seen() {
    model(|| {
        let ring = Ring::new(START);
        let shared = Arc::clone(&ring);
        let writing = thread::spawn(move || {
            let mut producer = Producer::new(&shared);
            assert!(producer.put(1));
            producer.publish();
        });
        ring.careless(START);
        writing.join().expect("the writer ends");
    });
}
