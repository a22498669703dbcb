//! Servers as child processes, here or in a namespace.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// A child that ends with this.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(mut command: Command) -> Running {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Running(command.spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `$TURNWIRE_BIN`, or what cargo builds beside this test.
pub(crate) fn turnwire_binary() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        if let Some(path) = std::env::var_os("TURNWIRE_BIN") {
            return path.into();
        }
        // TARGET/PROFILE/deps/this-test
        let test = std::env::current_exe().unwrap();
        let profile = test.ancestors().nth(2).unwrap().to_owned();
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--package", "turnwire", "--target-dir"]);
        build.arg(profile.parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "turnwire does not build");
        profile.join("turnwire")
    };
    BINARY.get_or_init(build).clone()
}

/// The arguments of a Turnwire for a user `u` with the password `p`.
pub(crate) fn turnwire_arguments(listen: &str, other: &str, relay_ip: &str) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["serve", "--admin=off", "--user=u:p", "--relay-ports=50000-59999", "--xdp-mode=off"]
            .map(String::from)
            .to_vec();
    arguments.push(format!("--listen={listen}"));
    arguments.push(format!("--nat-discovery={other}"));
    arguments.push(format!("--relay-ip={relay_ip}"));
    arguments
}
