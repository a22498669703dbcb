//! The parts of the program `turnwire`: command line, configuration, the control thread that joins
//! [`turn`] to [`dataplane`], and the admin server.
//!
//! ```text
//!   settings -> config -> plan -> driver <-> dataplane workers, kernel program
//!                                   ^
//!                                   | bounded questions
//!                                 admin
//! ```

pub mod config;
pub mod host;
pub mod log;
pub mod plan;
pub mod settings;
pub mod sys;
