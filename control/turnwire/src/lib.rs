//! The parts of the program `turnwire`: command line, configuration, the control thread that joins
//! [`turn`] to [`dataplane`], and the admin server.
//!
//! ```text
//!   settings -> config -> plan -> driver <-> dataplane workers, kernel program
//!                                   ^
//!                                   | bounded questions
//!                                 admin
//! ```

pub mod admin;
pub mod banner;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod descriptors;
pub mod driver;
pub mod host;
pub mod ice;
pub mod listening;
pub mod log;
pub mod nonce_keys;
pub mod plan;
pub mod probe;
pub mod random;
pub mod reload;
pub mod serve;
pub mod server;
pub mod settings;
pub mod sys;
pub mod tier;
pub mod top;
