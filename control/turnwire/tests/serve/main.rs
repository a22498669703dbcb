//! The program itself, as a child process on this host's loopback, without privilege.

mod certificate;
mod client;
mod commands;
mod life;
mod relay;
mod relaying;
mod reload;
mod top;
