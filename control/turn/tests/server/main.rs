//! The server from outside: datagrams in, datagrams and effects out, under a virtual clock and a
//! seed. Nothing here looks into the server, save its public counters and views.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod abuse;
mod allocate;
mod amplification;
mod appended;
mod authentication;
mod channels;
mod client;
mod data;
mod discovery;
mod icmp;
mod lab;
mod leaks;
mod lifetimes;
mod mobility;
mod model;
mod order;
mod permissions;
mod policy_matrix;
mod redirect;
mod refresh;
mod streams;
mod tcp;
mod tokens;
mod user;
mod wire;
