//! Log lines: text or JSON, on standard error, so that standard output is free for what is pasted.
//!
//! Nothing is logged for a packet; what a client can cause is counted, and told in summary.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// The environment variable that chooses what is logged, such as `debug` or `turnwire=debug`.
pub const FILTER_VARIABLE: &str = "TURNWIRE_LOG";

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object on each line.
    Json,
}

/// Starts logging for the whole process.
///
/// # Errors
/// The filter in [`FILTER_VARIABLE`] is not one.
pub fn start(format: LogFormat) -> Result<(), String> {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_env_var(FILTER_VARIABLE)
        .from_env()
        .map_err(|error| format!("{FILTER_VARIABLE}: {error}; try debug or turnwire=debug"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(false).with_target(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).with_target(false).init(),
    }
    Ok(())
}
