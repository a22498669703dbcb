//! The program, run to its end, and its report.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::relay::{OTHER, Server, USER};

/// What a run reported.
pub(crate) struct Run {
    /// The JSON.
    pub(crate) report: Value,
    /// The exit status.
    pub(crate) code: Option<i32>,
}

/// The program, with arguments.
pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnwire-conformance"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Every check against a server over a transport.
pub(crate) fn run(server: &Server, transport: &str, more: &[&str]) -> Run {
    let secure = ["tls", "dtls"].contains(&transport);
    let address = if secure { server.secure } else { server.plain };
    let mut command = program(&["--server", &address.to_string(), "--transport", transport]);
    command.args(["--user", USER.0, "--password", USER.1, "--other-user", OTHER]);
    if secure {
        command.arg("--tls-ca").arg(&server.certificate);
    }
    let output = command.args(["--json", "-"]).args(more).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_slice(&output.stdout);
    let report = report.unwrap_or_else(|error| panic!("{error}: {said}\n{}", server.log()));
    Run { report, code: output.status.code() }
}

impl Run {
    fn checks(&self) -> &[Value] {
        self.report["checks"].as_array().expect("checks")
    }

    /// The ids of the checks that ended so.
    pub(crate) fn with(&self, verdict: &str) -> BTreeSet<&str> {
        let ended = self.checks().iter().filter(|check| check["verdict"] == verdict);
        ended.map(|check| check["id"].as_str().expect("an id")).collect()
    }

    /// Everything that is known of the failures.
    pub(crate) fn failures(&self) -> String {
        let failed = self.checks().iter().filter(|check| check["verdict"] == "fail");
        let texts: Vec<String> =
            failed.map(|check| serde_json::to_string_pretty(check).unwrap()).collect();
        format!("seed {}\n{}", self.report["seed"], texts.join("\n"))
    }
}
