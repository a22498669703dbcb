//! Clients over TCP, TLS and DTLS against a data plane over loopback; the test is the control
//! thread and the peers.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests wait and measure")]

#[path = "../support/rig.rs"]
mod rig;

mod dtls;
mod ending;
mod hostile;
mod kit;
mod proxied;
mod relaying;
mod secure;
mod splicing;
