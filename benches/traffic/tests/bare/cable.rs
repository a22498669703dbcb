//! A cable between two network namespaces, with generator and sink at one end and a bare program at
//! the other. Made for each test, and removed after it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use turnwire_tests::namespace;

/// Both ends.
pub(crate) struct Cable {
    name: String,
    /// Interface indexes: ours, and the other end's.
    pub(crate) index: [u32; 2],
}

/// The Ethernet addresses of both ends.
pub(crate) const MACS: [[u8; 6]; 2] = [[2, 0x54, 0, 0, 0, 1], [2, 0x54, 0, 0, 0, 2]];

impl Cable {
    /// `None`, having said so, without privilege.
    pub(crate) fn new() -> Result<Option<Cable>> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !namespace::is_root() {
            eprintln!("skipped: network namespaces need root (CAP_SYS_ADMIN)");
            return Ok(None);
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut cable = Cable { name: format!("twc{}-{count}", std::process::id()), index: [0; 2] };
        let text = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
        let [near, far] = [cable.namespace(0), cable.namespace(1)];
        let script = format!(
            "ip netns add {near}; ip netns add {far}
            ip -n {near} link add near address {} type veth peer name far address {} netns {far}
            ip -n {near} link set near up; ip -n {far} link set far up
            ip netns exec {near} ethtool -K near gro on >/dev/null
            ip netns exec {far} ethtool -K far gro on >/dev/null
            ip netns exec {near} cat /sys/class/net/near/ifindex
            ip netns exec {far} cat /sys/class/net/far/ifindex",
            text(MACS[0]),
            text(MACS[1])
        );
        let output = Command::new("sh").args(["-ec", &script]).output()?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr));
        }
        let text = String::from_utf8(output.stdout)?;
        let mut indexes = text.lines().map(str::parse);
        for index in &mut cable.index {
            *index = indexes.next().context("an index")??;
        }
        Ok(Some(cable))
    }

    fn namespace(&self, end: usize) -> String {
        format!("{}{}", self.name, ["n", "f"][end])
    }

    /// Runs `task` at our end (0) or at the other one.
    pub(crate) fn inside<T: Send>(
        &self,
        end: usize,
        task: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        namespace::inside(&PathBuf::from("/run/netns").join(self.namespace(end)), task)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for end in [0, 1] {
            let _ = Command::new("ip").args(["netns", "delete", &self.namespace(end)]).output();
        }
    }
}
