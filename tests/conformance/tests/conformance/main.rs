//! The checks against Turnwire, which must pass them all, and against coturn, whose differences are
//! known; and this program's own codec against published vectors and another codec.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "the code of a test")]

mod codec;
mod coturn;
mod relay;
mod tool;
mod turnwire;
