//! Turnwire and clients that others wrote: whatever they do, by every tier, nothing is lost, and the
//! relay's own metrics say which tier carried it.

mod discovery;
mod setup;
mod uclient;
mod webrtc;
