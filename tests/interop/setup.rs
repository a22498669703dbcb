//! What `setup` installs: the clients that these tests run.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Result, bail};

/// The folder of these tests, with everything installed in it.
///
/// # Errors
/// `setup` failed: in its own words.
pub(crate) fn installed() -> Result<&'static Path> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/interop"));
    let done = DONE.get_or_init(|| {
        let output = Command::new(folder.join("setup")).output().map_err(|e| e.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    });
    match done {
        Ok(()) => Ok(folder),
        Err(error) => bail!("tests/interop/setup failed: {error}"),
    }
}
