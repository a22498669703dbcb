//! Readers of the route table act on a whole route of the right flow, or on none, whatever the writer
//! is doing: on the host, with fences, and as the kernel program reads, without.

use loom::sync::Arc;
use loom::thread;
use turnwire_loom::sync::atomic::AtomicU64;
use turnwire_loom::table::{
    Bucket, Entry, Geometry, HASH_WORDS, Memory, Miss, Table, Writer, lookup,
};
use turnwire_loom::{Key, Route, on_kernel_side};

/// Unlike in every word that loom follows.
fn key(number: u64) -> Key {
    Key([number; 5])
}

/// All words are the same, so a mixture of two routes shows.
fn route(number: u64) -> Route {
    Route([number; 8])
}

/// The words that loom follows; what it does not follow has no order with the rest.
fn followed(Route(words): Route) -> Route {
    Route([words[0], 0, 0, 0, 0, 0, 0, words[7]])
}

fn whole(number: u64) -> Route {
    followed(route(number))
}

struct Owned {
    geometry: Geometry,
    index: Vec<Bucket>,
    entries: Vec<Entry>,
    moves: AtomicU64,
}

fn geometry(buckets: u64) -> Geometry {
    let word = |at: usize| 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(at as u64 + 3);
    Geometry { secret: std::array::from_fn::<_, HASH_WORDS, _>(word), buckets }
}

impl Owned {
    fn new(buckets: u64, entries: usize) -> Self {
        Self {
            geometry: geometry(buckets),
            index: (0..buckets).map(|_| Bucket::default()).collect(),
            entries: (0..entries).map(|_| Entry::default()).collect(),
            moves: AtomicU64::default(),
        }
    }

    fn memory(&self) -> Memory<'_> {
        let Self { geometry, index, entries, moves } = self;
        Memory { geometry, index, entries, moves }
    }
}

/// Bounded, so that it ends: more than three switches of threads in the midst of a step seldom show
/// what three do not.
fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 100_000;
    builder.preemption_bound = Some(3);
    builder.check(check);
}

fn look(owned: &Owned, number: u64) -> Result<Route, Miss> {
    lookup(&owned.memory(), &key(number)).map(|found| followed(found.route))
}

/// A writer's change to a table with the route of `key(1)`, and what a reader may see meanwhile.
fn while_changing(
    change: fn(&mut Writer, Memory<'_>),
    look_for: u64,
    may_see: fn(Result<Route, Miss>) -> bool,
) {
    let owned = Arc::new(Owned::new(1, 2));
    let mut writer = Writer::new(owned.memory());
    writer.insert(owned.memory(), &key(1), &route(1)).expect("room");
    let shared = Arc::clone(&owned);
    let writing = thread::spawn(move || change(&mut writer, shared.memory()));
    let reading = thread::spawn(move || look(&owned, look_for));
    writing.join().expect("the writer ends");
    let seen = reading.join().expect("the reader ends");
    assert!(may_see(seen), "{seen:?}");
}

fn both_sides(check: fn()) {
    model(check);
    on_kernel_side(|| model(check));
}

#[test]
fn a_route_being_replaced_is_the_old_or_the_new_one() {
    both_sides(|| {
        while_changing(
            |writer, memory| _ = writer.insert(memory, &key(1), &route(2)),
            1,
            |seen| [Ok(whole(1)), Ok(whole(2)), Err(Miss::Busy)].contains(&seen),
        );
    });
}

#[test]
fn an_entry_that_changes_its_owner_never_gives_one_flow_the_others_route() {
    both_sides(|| {
        while_changing(
            |writer, memory| {
                assert!(writer.remove(memory, &key(1)));
                writer.insert(memory, &key(2), &route(2)).expect("room");
            },
            1,
            |seen| matches!(seen, Ok(r) if r == whole(1)) || seen.is_err(),
        );
    });
}

#[test]
fn a_new_flow_is_found_whole_or_not_yet() {
    both_sides(|| {
        while_changing(
            |writer, memory| {
                assert!(writer.remove(memory, &key(1)));
                writer.insert(memory, &key(2), &route(2)).expect("room");
            },
            2,
            |seen| matches!(seen, Ok(r) if r == whole(2)) || seen.is_err(),
        );
    });
}

/// Eight flows whose first bucket is the second one, where four of them lie, the others in the first;
/// and a flow that has only the first: to let it in, one of the others moves to its own first bucket.
/// A reader that looks there too early, and then where the flow lay too late, finds it nowhere.
fn crowd() -> (Vec<u64>, u64) {
    let geometry = geometry(2);
    let places = |number: u64| geometry.place(&key(number)).buckets;
    let crowd = (1..).filter(|number| places(*number) == [1, 0]).take(8).collect();
    let last = (1..).find(|number| places(*number) == [0, 0]).expect("a hash has all of them");
    (crowd, last)
}

#[test]
fn a_flow_whose_slot_moves_is_never_taken_for_absent() {
    model(|| {
        let (crowd, last) = crowd();
        let owned = Arc::new(Owned::new(2, 9));
        let mut writer = Writer::new(owned.memory());
        for number in &crowd {
            writer.insert(owned.memory(), &key(*number), &route(*number)).expect("room");
        }
        assert!(writer.remove(owned.memory(), &key(crowd[0])));
        let shared = Arc::clone(&owned);
        let writing = thread::spawn(move || {
            writer.insert(shared.memory(), &key(last), &route(last)).expect("room");
        });
        let moving = crowd[4];
        let shared = Arc::clone(&owned);
        let reading = thread::spawn(move || look(&shared, moving));
        writing.join().expect("the writer ends");
        let seen = reading.join().expect("the reader ends");
        assert_ne!(owned.memory().moves(), 0, "nothing moved");
        drop(owned);

        assert!(seen == Ok(whole(moving)) || seen == Err(Miss::Busy), "{seen:?}");
    });
}

#[test]
#[should_panic(expected = "a mixture")]
fn without_the_sequence_number_a_reader_would_see_a_mixture() {
    model(|| {
        let owned = Arc::new(Owned::new(1, 2));
        let mut writer = Writer::new(owned.memory());
        writer.insert(owned.memory(), &key(1), &route(1)).expect("room");
        let shared = Arc::clone(&owned);
        let writing = thread::spawn(move || {
            writer.insert(shared.memory(), &key(1), &route(2)).expect("room");
        });
        let seen = owned.memory().entry_of(&key(1)).map(|entry| followed(entry.careless()));
        writing.join().expect("the writer ends");
        drop(owned);
        assert!(seen.is_none_or(|seen| seen == whole(1) || seen == whole(2)), "a mixture");
    });
}
