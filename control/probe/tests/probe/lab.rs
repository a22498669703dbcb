//! Three namespaces in a row: a host, a NAT, the world. Their names carry this process's id; they go
//! with the value.
//!
//! ```text
//!   lan 10.0.0.2 ── 10.0.0.1 nat 44.128.7.10 ── 44.128.7.1 and 44.128.7.2 world
//! ```

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The lab, with one kind of NAT.
pub(crate) struct Lab {
    names: [String; 3],
}

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {arguments:?}: {said}");
}

/// Whether the tests may make namespaces and NATs here.
pub(crate) fn is_possible() -> bool {
    let root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
    root && Command::new("nft").arg("--version").output().is_ok()
}

impl Lab {
    /// `rules` is an nftables ruleset for the NAT.
    pub(crate) fn new(rules: &str) -> Lab {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = |part: &str| format!("twprobe-{}-{number}-{part}", std::process::id());
        let lab = Lab { names: ["lan", "nat", "world"].map(name) };
        let [lan, nat, world] = lab.names.each_ref().map(String::as_str);
        for ns in [lan, nat, world] {
            run("ip", &["netns", "add", ns]);
            run("ip", &["-n", ns, "link", "set", "lo", "up"]);
        }
        for (ns, device, far, far_device) in
            [(lan, "eth0", nat, "lan"), (nat, "wan", world, "eth0")]
        {
            run(
                "ip",
                &[
                    "-n", ns, "link", "add", device, "type", "veth", "peer", "name", far_device,
                    "netns", far,
                ],
            );
        }
        for (ns, device, addresses) in [
            (lan, "eth0", &["10.0.0.2/24"][..]),
            (nat, "lan", &["10.0.0.1/24"]),
            (nat, "wan", &["44.128.7.10/24"]),
            (world, "eth0", &["44.128.7.1/24", "44.128.7.2/24"]),
        ] {
            for address in addresses {
                run("ip", &["-n", ns, "address", "add", address, "dev", device]);
            }
            run("ip", &["-n", ns, "link", "set", device, "up"]);
        }
        run("ip", &["-n", lan, "route", "add", "default", "via", "10.0.0.1"]);
        run("ip", &["netns", "exec", nat, "sysctl", "-qw", "net.ipv4.ip_forward=1"]);
        let mut nft = Command::new("ip")
            .args(["netns", "exec", nat, "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success(), "{rules}");
        lab
    }

    /// A command on the host behind the NAT.
    pub(crate) fn lan(&self, program: &str) -> Command {
        self.inside(0, program)
    }

    /// A command in the world.
    pub(crate) fn world(&self, program: &str) -> Command {
        self.inside(2, program)
    }

    fn inside(&self, at: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[at], program]);
        command
    }

    /// Waits until something listens for UDP in the world.
    pub(crate) fn wait_for(&self, listen: &str) {
        let [_, _, world] = self.names.each_ref().map(String::as_str);
        wait_for(&["ip", "netns", "exec", world], listen);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for ns in &self.names {
            let _ = Command::new("ip").args(["netns", "delete", ns]).output();
        }
    }
}

/// Waits until something listens for UDP at this address where `prefix` leads.
fn wait_for(prefix: &[&str], listen: &str) {
    for _ in 0..150 {
        let mut ss = Command::new(prefix[0]);
        let output = ss.args(&prefix[1..]).args(["ss", "-Hlun"]).output().unwrap();
        if String::from_utf8_lossy(&output.stdout).contains(listen) {
            return;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    panic!("nothing listens at {listen}");
}
