//! A cable between two network namespaces of its own, removed with it: for programs that are tested
//! or measured without a relay.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

use crate::namespace;

/// Our end, for a generator and a sink.
pub const NEAR: usize = 0;
/// The other end.
pub const FAR: usize = 1;
/// The interface there.
pub const FAR_NAME: &str = "far";
/// The Ethernet addresses of both ends.
pub const MACS: [[u8; 6]; 2] = [[2, 0x54, 0, 0, 0, 1], [2, 0x54, 0, 0, 0, 2]];

/// Both ends.
#[derive(Debug)]
pub struct Cable {
    name: String,
    /// Interface indexes, by end.
    pub index: [u32; 2],
}

impl Cable {
    /// Lays one. The kernel says nothing on it by itself: IPv6 is off.
    ///
    /// # Errors
    /// Without root (CAP_SYS_ADMIN), `ip` or `ethtool`.
    pub fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut cable = Self { name: format!("twc{}-{count}", std::process::id()), index: [0; 2] };
        let text = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
        let [near, far] = [cable.namespace(NEAR), cable.namespace(FAR)];
        let script = format!(
            "ip netns add {near}; ip netns add {far}
            for space in {near} {far}; do
                ip netns exec $space sh -c 'echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6'
            done
            ip -n {near} link add near address {} type veth \
                peer name {FAR_NAME} address {} netns {far}
            ip -n {near} link set near up; ip -n {far} link set {FAR_NAME} up
            ip netns exec {near} ethtool -K near gro on >/dev/null
            ip netns exec {far} ethtool -K {FAR_NAME} gro on >/dev/null
            ip netns exec {near} cat /sys/class/net/near/ifindex
            ip netns exec {far} cat /sys/class/net/{FAR_NAME}/ifindex",
            text(MACS[NEAR]),
            text(MACS[FAR])
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
        Ok(cable)
    }

    fn namespace(&self, end: usize) -> String {
        format!("{}{}", self.name, ["n", "f"][end])
    }

    /// Runs `task` at one end.
    ///
    /// # Errors
    /// The task's, or the namespace's.
    pub fn inside<T: Send>(
        &self,
        end: usize,
        task: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        namespace::inside(&PathBuf::from("/run/netns").join(self.namespace(end)), task)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for end in [NEAR, FAR] {
            let _ = Command::new("ip").args(["netns", "delete", &self.namespace(end)]).output();
        }
    }
}
