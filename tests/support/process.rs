//! Processes that a test starts: bounded, and ended by their own pid whatever happens.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::namespace::signal;
use crate::wait;

/// A child process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; all that it prints goes to the file `log`.
    ///
    /// # Errors
    /// The log cannot be written, or the program cannot be started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let out = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("starting {name} ({command:?})"))?;
        Ok(Self { name: name.into(), child, log: log.into() })
    }

    /// The process id, which stays the same through `scripts/lab exec`.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it printed so far.
    pub fn output(&self) -> String {
        std::fs::read(&self.log).map_or_else(
            |error| format!("(no log: {error})"),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// The last lines of what it printed, for a failure's message.
    pub fn last_words(&self) -> String {
        last_lines(&self.output()).join("\n")
    }

    /// Whether it has ended, and how.
    ///
    /// # Errors
    /// As waitpid(2).
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// # Errors
    /// It has ended.
    pub fn must_be_running(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => {
                bail!("{} ended early ({status}):\n{}", self.name, self.last_words())
            }
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&mut self, number: libc::c_int) -> Result<()> {
        self.must_be_running()?;
        signal(self.child.id(), number).with_context(|| format!("signalling {}", self.name))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It does not end within `limit`; it is killed then.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let ended = wait::until(&format!("the end of {}", self.name), limit, || {
            Ok(self.child.try_wait()?)
        });
        ended.with_context(|| {
            self.kill();
            self.last_words()
        })
    }

    /// Kills it (SIGKILL) and waits for its end.
    pub fn kill(&mut self) {
        // An error means that it has ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last lines of a log, as many as a failure's message can bear.
pub fn last_lines(log: &str) -> Vec<&str> {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].to_vec()
}
