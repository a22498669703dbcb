//! Probes of Turnwire and coturn over loopback, and through NATs of every kind in a lab: what is told
//! of them is what they are.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "the code of a test")]

mod lab;
mod loopback;
mod nats;
mod server;
