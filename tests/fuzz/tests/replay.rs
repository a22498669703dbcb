//! Every target over its committed corpus, and for a bounded time over mutations of it.
//!
//! `TURNWIRE_SEED=n` repeats a run, `TURNWIRE_FUZZ_INPUTS=n` makes it longer.
#![allow(clippy::unwrap_used, reason = "the code of a test")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use turnwire_fuzz::{Mutator, TARGETS, Target, target};

/// So much that everyone has of it: it is committed.
const CORPUS_BYTES_MAX: u64 = 1 << 20;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn corpus(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(folder().join(target.name)).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

/// Runs one input; where it fails, says which it was, in a form that a file can be made of.
fn run(target: &Target, input: &[u8], what: &str) {
    let done = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    if let Err(panic) = done {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        println!("{}, {what}; to keep it: echo {hex} | xxd -r -p > INPUT", target.name);
        resume_unwind(panic);
    }
}

fn everyday(name: &str) {
    let target = target(name).unwrap();
    let corpus = corpus(target);
    assert!(!corpus.is_empty(), "no corpus of {name}");
    for (path, input) in &corpus {
        run(target, input, &path.display().to_string());
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed: u64 = number("TURNWIRE_SEED").unwrap_or(20_261_121);
    let inputs = number("TURNWIRE_FUZZ_INPUTS").map_or(target.everyday, |count| count as usize);
    println!("{name}: {} inputs, TURNWIRE_SEED={seed}", corpus.len());
    let mut pool: Vec<Vec<u8>> = corpus.into_iter().map(|(_, input)| input).collect();
    pool.extend((target.seeds)());
    let mut mutator = Mutator::new(seed);
    for number in 0..inputs {
        let input = mutator.input(&pool, target.size_max);
        run(target, &input, &format!("TURNWIRE_SEED={seed}, input {number}"));
    }
}

macro_rules! tests {
    ($($test:ident = $name:literal,)*) => {
        $(#[test]
        fn $test() {
            everyday($name);
        })*

        #[test]
        fn every_target_is_run_and_has_a_corpus_and_the_corpus_is_small() {
            let run = [$($name),*];
            let targets: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(run.as_slice(), targets);
            let folders = fs::read_dir(folder()).unwrap().map(|folder| folder.unwrap().file_name());
            let mut folders: Vec<_> = folders.map(|name| name.into_string().unwrap()).collect();
            folders.sort();
            let mut expected = targets.clone();
            expected.sort();
            assert_eq!(folders, expected, "one folder for each target, and no other");
            let files = TARGETS.iter().flat_map(corpus);
            let size: u64 = files.map(|(_, input)| input.len() as u64).sum();
            assert!(size <= CORPUS_BYTES_MAX, "{size} bytes of corpus");
        }
    };
}

tests! {
    stun_messages_are_read_as_others_read_them = "stun",
    attributes_survive_the_round_trip = "attributes",
    strangers_leave_nothing_behind = "stranger",
    authenticated_operations_agree_with_the_model = "operations",
    host_and_server_agree_whatever_is_signed = "signed",
    channel_data_is_one_thing_to_all = "channel-data",
    indications_mean_to_a_worker_what_they_mean_to_the_server = "indication",
    streams_are_told_as_they_are_while_the_relay_waits = "fed",
    streams_give_their_messages_wherever_they_are_cut = "stream",
    proxy_headers_are_read_wherever_they_are_cut = "proxy",
    access_tokens_open_what_they_say_or_nothing = "token",
    frames_are_passed_or_forwarded_rightly = "frame",
    configurations_are_taken_or_refused_in_words = "config",
    the_route_table_is_a_map = "route-table",
    every_frame_is_in_exactly_one_place = "frame-places",
}

#[test]
fn a_target_that_finds_something_fails() {
    let bad: Target = Target { run: |input| assert!(input.len() < 3), ..TARGETS[0] };
    assert!(catch_unwind(|| run(&bad, b"four", "a test")).is_err());
    run(&bad, b"ok", "a test");
}
