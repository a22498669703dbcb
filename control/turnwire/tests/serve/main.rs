//! The program itself, as a child process on this host's loopback, without privilege.

mod by_hand;
mod certificate;
mod client;
mod commands;
mod elsewhere;
mod life;
mod moving;
mod proxied;
mod relay;
mod relaying;
mod reload;
mod software;
mod tokens;
mod top;
