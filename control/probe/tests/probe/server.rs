//! Servers as child processes, here or in a namespace.

use std::process::{Child, Command, Stdio};

/// A child that ends with this.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(mut command: Command) -> Running {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Running(command.spawn().unwrap())
    }

    /// Whether it has ended by itself, as for want of its port.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
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
