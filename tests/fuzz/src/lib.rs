//! Fuzz targets: each is a plain function that takes any bytes and panics when a rule is broken.
//!
//! ```text
//!   corpus/TARGET/*  ──> tests/replay.rs        every test run
//!   Mutator, a seed  ──> tests/replay.rs        every test run, a bounded number of inputs
//!   libFuzzer        ──> src/bin/coverage.rs    scripts/fuzz TARGET [SECONDS]
//!                             └──> Target::run(&[u8])
//! ```
//!
//! What a target finds is mended, and its input is committed to the corpus under a name that says
//! what it showed.
#![allow(clippy::unwrap_used, reason = "the code of tests: what it asserts is its purpose")]

mod attributes;
mod channel_data;
mod config;
mod fed;
mod frame;
mod frame_places;
mod indication;
mod input;
mod lab;
mod mutate;
mod operations;
mod proxy;
mod route_table;
mod stranger;
mod stream;
mod stun;
mod token;

pub use mutate::Mutator;

/// One fuzz target.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name: of its corpus folder, and for `scripts/fuzz`.
    pub name: &'static str,
    /// What it shows, in a line.
    pub shows: &'static str,
    /// Takes any bytes; panics when a rule is broken.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Longest input worth trying, bytes.
    pub size_max: usize,
    /// Mutated inputs in an everyday test run.
    pub everyday: usize,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "stun",
        shows: "a message that parses is what a plain reader and another codec read",
        run: stun::run,
        seeds: stun::seeds,
        size_max: 1500,
        everyday: 20_000,
    },
    Target {
        name: "attributes",
        shows: "what a typed getter reads, its writer writes, and it reads the same again",
        run: attributes::run,
        seeds: attributes::seeds,
        size_max: 900,
        everyday: 20_000,
    },
    Target {
        name: "stranger",
        shows: "unauthenticated datagrams leave nothing behind and amplify nothing",
        run: stranger::run,
        seeds: stranger::seeds,
        size_max: 2000,
        everyday: 2_000,
    },
    Target {
        name: "operations",
        shows: "authenticated operations are answered, and publish, what a model says",
        run: operations::modelled,
        seeds: operations::modelled_seeds,
        size_max: 600,
        everyday: 1_000,
    },
    Target {
        name: "signed",
        shows: "whatever a user signs, what is published is what the server holds",
        run: operations::signed,
        seeds: operations::signed_seeds,
        size_max: 1500,
        everyday: 1_000,
    },
    Target {
        name: "channel-data",
        shows: "server, packet path and a plain reader agree on what ChannelData is",
        run: channel_data::run,
        seeds: channel_data::seeds,
        size_max: 300,
        everyday: 20_000,
    },
    Target {
        name: "indication",
        shows: "a Send that a worker carries is what the server reads, and its Data what it writes",
        run: indication::run,
        seeds: indication::seeds,
        size_max: 300,
        everyday: 20_000,
    },
    Target {
        name: "fed",
        shows: "the relay tells the messages of a stream wherever it is cut, and while it has to wait",
        run: fed::run,
        seeds: fed::seeds,
        size_max: 2000,
        everyday: 1_000,
    },
    Target {
        name: "stream",
        shows: "a stream gives the same messages wherever it is cut, and holds one at most",
        run: stream::run,
        seeds: stream::seeds,
        size_max: 800,
        everyday: 2_000,
    },
    Target {
        name: "proxy",
        shows: "a PROXY header is what a plain reader reads, wherever it is cut",
        run: proxy::run,
        seeds: proxy::seeds,
        size_max: 1200,
        everyday: 5_000,
    },
    Target {
        name: "token",
        shows: "an access token opens what its fields say, and one that was touched nothing",
        run: token::run,
        seeds: token::seeds,
        size_max: 500,
        everyday: 1_000,
    },
    Target {
        name: "frame",
        shows: "a frame is passed untouched, or forwarded as worked out independently",
        run: frame::run,
        seeds: frame::seeds,
        size_max: 1600,
        everyday: 20_000,
    },
    Target {
        name: "config",
        shows: "any text is a configuration or a list of mistakes with their lines",
        run: config::run,
        seeds: config::seeds,
        size_max: 1200,
        everyday: 2_000,
    },
    Target {
        name: "route-table",
        shows: "the route table holds what a plain map holds",
        run: route_table::run,
        seeds: route_table::seeds,
        size_max: 1000,
        everyday: 5_000,
    },
    Target {
        name: "frame-places",
        shows: "no frame of AF_XDP's memory is leaked, and none is in two places, whatever happens",
        run: frame_places::run,
        seeds: frame_places::seeds,
        size_max: 2000,
        everyday: 500,
    },
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
