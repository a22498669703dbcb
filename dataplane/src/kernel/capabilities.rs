//! What this process may do (capabilities(7)).

/// Bit numbers of `linux/capability.h`.
const NET_ADMIN: u32 = 12;
const SYS_ADMIN: u32 = 21;
const PERFMON: u32 = 38;
const BPF: u32 = 39;

/// The names of the capabilities that XDP needs and this process lacks.
pub(crate) fn missing() -> Vec<&'static str> {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    effective(&status).map(missing_in).unwrap_or_default()
}

fn effective(status: &str) -> Option<u64> {
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

fn missing_in(set: u64) -> Vec<&'static str> {
    let has = |bit: u32| set >> bit & 1 == 1;
    // CAP_SYS_ADMIN included the newer two before Linux 5.8, and still does.
    let needs = [
        ("CAP_BPF", has(BPF) || has(SYS_ADMIN)),
        ("CAP_PERFMON", has(PERFMON) || has(SYS_ADMIN)),
        ("CAP_NET_ADMIN", has(NET_ADMIN)),
    ];
    needs.into_iter().filter(|(_, held)| !held).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_capability_is_named() {
        let all = 1 << BPF | 1 << PERFMON | 1 << NET_ADMIN;
        assert_eq!(missing_in(all), Vec::<&str>::new());
        assert_eq!(missing_in(1 << SYS_ADMIN | 1 << NET_ADMIN), Vec::<&str>::new());
        assert_eq!(missing_in(all & !(1 << BPF)), ["CAP_BPF"]);
        assert_eq!(missing_in(1 << SYS_ADMIN), ["CAP_NET_ADMIN"]);
        assert_eq!(missing_in(0), ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"]);
    }

    #[test]
    fn the_effective_set_is_read_from_the_status_file() {
        let status = "CapPrm:\t0000000000000001\nCapEff:\t000000c000001000\n";
        assert_eq!(effective(status), Some(1 << BPF | 1 << PERFMON | 1 << NET_ADMIN));
        assert_eq!(effective("Name: x"), None);
    }
}
