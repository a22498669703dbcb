//! The relay's work by the piece, without sockets, threads and clocks: frames, decisions, messages,
//! timers. Criterion measures them in time (`benches/`), callgrind in instructions
//! (`src/bin/count.rs`).

pub mod baseline;
pub mod cases;
pub mod flows;
pub mod frames;
pub mod messages;
pub mod timers;
