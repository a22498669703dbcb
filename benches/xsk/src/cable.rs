//! A cable between two network namespaces of this run's own, removed after it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Generator and sink.
pub(crate) const NEAR: usize = 0;
/// The reflector.
pub(crate) const FAR: usize = 1;
pub(crate) const FAR_NAME: &str = "far";
pub(crate) const MACS: [[u8; 6]; 2] = [[2, 0x58, 0, 0, 0, 1], [2, 0x58, 0, 0, 0, 2]];

pub(crate) struct Cable {
    /// Interface indexes.
    pub(crate) index: [u32; 2],
}

fn namespace(end: usize) -> String {
    format!("twx{}{}", std::process::id(), ["n", "f"][end])
}

impl Cable {
    /// # Errors
    /// Without root.
    pub(crate) fn new() -> Result<Cable> {
        let text = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
        let [near, far] = [namespace(NEAR), namespace(FAR)];
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
        let mut cable = Cable { index: [0; 2] };
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

    /// Runs `task` at one end.
    pub(crate) fn inside<T: Send>(
        &self,
        end: usize,
        task: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        turnwire_tests::namespace::inside(&PathBuf::from("/run/netns").join(namespace(end)), task)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for end in [NEAR, FAR] {
            let _ = Command::new("ip").args(["netns", "delete", &namespace(end)]).output();
        }
    }
}
