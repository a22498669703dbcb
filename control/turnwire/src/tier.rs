//! Which tier carries channel data: the kernel program, or sockets alone; and why.

use std::net::SocketAddr;
use std::sync::Arc;

use dataplane::Dataplane;
use dataplane::frames::{Copying, Keeper, Unsuited};
use dataplane::kernel::{AttachedInterface, Kernel, KernelConfig, Punt};

use mio::Waker;

use crate::config::{AfXdp, XdpForward, XdpMode};
use crate::plan::Plan;

/// What was chosen.
pub struct Tier {
    /// The program, where it is attached.
    pub kernel: Option<Kernel>,
    /// Where and how it is attached.
    pub interfaces: Vec<AttachedInterface>,
    /// `xdp` or `socket`.
    pub name: &'static str,
    /// Why this one, in words.
    pub why: String,
    /// The fast path was asked for and is not there.
    pub fell_back: bool,
    /// Why no worker gets frames, where that is so: asked once, and before attaching.
    without_frames: Option<Without>,
}

impl Tier {
    fn sockets(why: impl Into<String>, fell_back: bool) -> Tier {
        let (kernel, interfaces, name) = (None, Vec::new(), "socket");
        Tier { kernel, interfaces, name, why: why.into(), fell_back, without_frames: None }
    }
}

/// Attaches the kernel program where it is asked for. `waker` wakes the control thread for it.
///
/// # Errors
/// It cannot be attached, and `--xdp-mode` is `native` or `generic`: in words.
pub fn choose(plan: &Plan, listen: Vec<SocketAddr>, waker: Arc<Waker>) -> Result<Tier, String> {
    let config = &plan.config;
    let mode = match config.xdp_mode.value {
        XdpMode::Off => return Ok(Tier::sockets("--xdp-mode is off", false)),
        _ if config.xdp.is_empty() => {
            return Ok(Tier::sockets("no interface is named with --xdp", false));
        }
        XdpMode::Auto => dataplane::kernel::XdpMode::Auto,
        XdpMode::Native => dataplane::kernel::XdpMode::Native,
        XdpMode::Generic => dataplane::kernel::XdpMode::Generic,
    };
    let without_frames = without_frames(plan);
    let punt = match plan.config.xdp_forward.value {
        _ if without_frames.is_some() => Punt::Off,
        XdpForward::Kernel => Punt::Unrouted,
        XdpForward::Workers => Punt::All,
    };
    match Kernel::attach(&kernel_config(plan, mode, listen, punt), waker) {
        Ok((kernel, interfaces)) => {
            let each: Vec<String> = interfaces
                .iter()
                .map(|one| format!("{} ({}: {})", one.name, one.mode, one.why))
                .collect();
            let (kernel, why) = (Some(kernel), each.join(", "));
            Ok(Tier { kernel, interfaces, name: "xdp", why, fell_back: false, without_frames })
        }
        Err(error) if config.xdp_mode.value == XdpMode::Auto => {
            Ok(Tier::sockets(error.to_string(), true))
        }
        Err(error) => {
            let place = &config.xdp[0].source;
            Err(format!("{place}: {error} (with xdp-mode auto, sockets would carry all)"))
        }
    }
}

fn kernel_config(
    plan: &Plan,
    mode: dataplane::kernel::XdpMode,
    listen: Vec<SocketAddr>,
    punt: Punt,
) -> KernelConfig {
    KernelConfig {
        interfaces: plan.config.xdp.iter().map(|given| given.value.clone()).collect(),
        mode,
        listen,
        relay_ips: plan.relay_ips.clone(),
        routes_max: plan.config.max_channels.value,
        punt,
    }
}

/// The first kernel that is known to take the program with what hands frames over. The verifier of
/// 5.10 does not come to an end over it within minutes, and the relay would not start meanwhile.
const PUNTING_FROM: (u32, u32) = (6, 1);

/// Why no worker gets frames, whatever is attached.
struct Without {
    why: String,
    /// It is not what was asked for, or loses what there could be.
    notable: bool,
}

/// Then the program is without the part that hands them over, too.
fn without_frames(plan: &Plan) -> Option<Without> {
    let config = &plan.config;
    let notable = !matches!(config.af_xdp.value, AfXdp::Off | AfXdp::Auto);
    let without = |why: &str| Some(Without { why: why.to_owned(), notable });
    let Some(copying) = copying(plan) else { return without("--af-xdp is off") };
    if running().is_some_and(|kernel| kernel < PUNTING_FROM) {
        return without("AF_XDP needs Linux 6.1 or later here");
    }
    let names: Vec<&str> = config.xdp.iter().map(|given| given.value.as_str()).collect();
    let program_forwards = config.xdp_forward.value == XdpForward::Kernel;
    match Keeper::unsuited(copying, program_forwards, &names)? {
        Unsuited::Loses(why) => Some(Without { why, notable: true }),
        Unsuited::Copies(_) => without(
            "no driver of the interfaces says that it does AF_XDP without copies; with copies it \
             carries more than sockets over many flows and less over one, so it is for whoever asks \
             (--af-xdp copy)",
        ),
    }
}

/// Which interfaces are to get AF_XDP; `None` for none.
fn copying(plan: &Plan) -> Option<Copying> {
    match plan.config.af_xdp.value {
        AfXdp::Off => None,
        AfXdp::Auto => Some(Copying::Auto),
        AfXdp::Copy => Some(Copying::Copy),
        AfXdp::ZeroCopy => Some(Copying::Zero),
    }
}

/// The running kernel's version.
fn running() -> Option<(u32, u32)> {
    version(&std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?)
}

/// The first two numbers of a release: `6.1.0-50-cloud-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// What became of AF_XDP.
pub struct AfXdpTier {
    /// Keeps the workers in queues, where that was asked for and the program is attached.
    pub keeper: Option<Keeper>,
    /// What it does, or why there is none, in words.
    pub why: String,
    /// It was asked for and is not there, or would be there if the driver did not lose frames.
    pub notable: bool,
}

/// Prepares AF_XDP for the workers. `waker` wakes the control thread for it.
pub fn af_xdp(plan: &Plan, plane: &Dataplane, tier: &mut Tier, waker: Arc<Waker>) -> AfXdpTier {
    let none = |why: String, notable| AfXdpTier { keeper: None, why, notable };
    let Some(copying) = copying(plan) else {
        return none("--af-xdp is off".to_owned(), false);
    };
    let Some(kernel) = &tier.kernel else {
        return none("the kernel program is not attached".to_owned(), false);
    };
    if let Some(Without { why, notable }) = tier.without_frames.take() {
        return none(why, notable);
    }
    match Keeper::new(copying, plane, kernel, waker) {
        Ok(keeper) => {
            let takes = match plan.config.xdp_forward.value {
                XdpForward::Kernel => "what has no live channel",
                XdpForward::Workers => "everything of ours",
            };
            let why = format!("workers take {takes}");
            AfXdpTier { keeper: Some(keeper), why, notable: false }
        }
        Err(error) => none(error.to_string(), true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_known_by_its_first_two_numbers() {
        for (release, wanted) in [
            ("5.10.0-32-cloud-amd64", Some((5, 10))),
            ("6.1.0-50-cloud-amd64\n", Some((6, 1))),
            ("6.18.15+deb13-amd64", Some((6, 18))),
            ("7.2-rc1", Some((7, 2))),
            ("next", None),
            ("", None),
        ] {
            assert_eq!(version(release), wanted, "{release}");
        }
        assert!(version("5.10.0") < Some(PUNTING_FROM) && version("6.1.0") >= Some(PUNTING_FROM));
    }
}
