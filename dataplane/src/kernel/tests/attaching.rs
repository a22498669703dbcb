//! Where the program can be attached, where not, and that nothing is left of it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use super::lab::{Lab, attach, config, route};
use crate::kernel::attach::suitable;
use crate::kernel::links::Links;
use crate::kernel::netlink::facts::{Link, LinkKind};
use crate::kernel::testing::{ethtool, in_namespace, ip, try_ip, with_capabilities};
use crate::kernel::watch::Watch;
use crate::kernel::{AttachError, Kernel, XdpMode};

/// The program on an interface, as the kernel tells.
fn program_on(name: &str) -> Option<u32> {
    Watch::open().unwrap().links().named(name).unwrap().program
}

/// True once there is no program on the interface. The kernel tears links down in its own time, and
/// a process that another test is just starting holds copies of our descriptors until it execs.
fn becomes_free(name: &str) -> bool {
    (0..100).any(|_| {
        let free = program_on(name).is_none();
        if !free {
            sleep(Duration::from_millis(20));
        }
        free
    })
}

fn refusal(name: &str, mode: XdpMode) -> AttachError {
    let refused = attach(|config| (config.interfaces, config.mode) = (vec![name.into()], mode));
    match refused {
        Ok((_, attached)) => panic!("attached: {attached:?}"),
        Err(error) => error,
    }
}

#[test]
fn it_attaches_natively_where_that_is_asked_for_and_says_so() {
    in_namespace(|| {
        let _lab = Lab::new();
        let (kernel, attached) = attach(|_| ()).unwrap();
        let names: Vec<&str> = attached.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["eth0", "eth1"]);
        assert!(attached.iter().all(|one| one.mode == XdpMode::Native), "{attached:?}");
        assert!(program_on("eth0").is_some());
        drop(kernel);
        assert!(becomes_free("eth0") && becomes_free("eth1"));
    });
}

#[test]
fn a_missing_interface_is_named_with_those_that_exist() {
    in_namespace(|| {
        let _lab = Lab::new();
        let error = refusal("eth7", XdpMode::Auto);
        assert!(matches!(error, AttachError::Missing { .. }));
        assert_eq!(
            error.to_string(),
            "there is no interface \"eth7\" here; there are: eth0, eth1, lo"
        );
    });
}

#[test]
fn interfaces_that_cannot_carry_it_are_refused_with_a_better_one() {
    in_namespace(|| {
        let _lab = Lab::new();
        ip("link add br0 type bridge");
        ip("link add mv0 link eth0 type macvlan");
        let why = |name: &str| refusal(name, XdpMode::Auto).to_string();
        assert!(why("lo").contains("loopback"));
        assert!(why("br0").contains("a bridge interface; give the network card below it"));
        assert!(why("mv0").contains("macvlan"));
        ip("link set eth1 master br0");
        assert!(why("eth1").contains("a port of br0"));
        match try_ip("link add link eth0 name eth0.7 type vlan id 7") {
            Ok(()) => assert!(why("eth0.7").contains("give eth0, whose VLANs are served")),
            Err(error) => eprintln!("VLANs not seen: this kernel has none (VLAN_8021Q): {error}"),
        }
        assert!(matches!(attach(|c| c.interfaces.clear()), Err(AttachError::NoneGiven)));
    });
}

#[test]
fn a_driver_without_native_mode_is_served_generically_or_refused() {
    in_namespace(|| {
        ip("link add ifb9 type ifb");
        let error = refusal("ifb9", XdpMode::Native);
        assert!(matches!(error, AttachError::NoNativeMode { .. }), "{error}");
        assert!(error.to_string().contains("ifb9"));

        let auto = |config: &mut crate::kernel::KernelConfig| {
            (config.interfaces, config.mode) = (vec!["ifb9".into()], XdpMode::Auto);
        };
        let (_kernel, attached) = attach(auto).unwrap();
        assert_eq!(attached[0].mode, XdpMode::Generic);
        assert!(attached[0].why.contains("no native XDP"), "{}", attached[0].why);
    });
}

#[test]
fn all_interfaces_run_in_one_mode_so_that_frames_can_cross() {
    in_namespace(|| {
        let _lab = Lab::new();
        ip("link add ifb9 type ifb");
        let three = |config: &mut crate::kernel::KernelConfig| {
            let all = ["eth0", "ifb9", "eth1"].map(String::from).into();
            (config.interfaces, config.mode) = (all, XdpMode::Auto);
        };
        let (_kernel, attached) = attach(three).unwrap();
        assert!(attached.iter().all(|one| one.mode == XdpMode::Generic), "{attached:?}");
        let why = |at: usize| attached[at].why.as_str();
        assert!(why(0).starts_with("it is a veth"), "{}", why(0));
        assert!(why(2).starts_with("the driver of ifb9 has no native XDP"), "{}", why(2));
    });
}

/// What it sends natively is lost there, unless the far end runs a program: `scripts/lab` has more.
#[test]
fn auto_is_generic_on_a_veth_and_says_why_also_when_it_comes_back() {
    in_namespace(|| {
        let lab = Lab::new();
        let (mut kernel, attached) = attach(|config| config.mode = XdpMode::Auto).unwrap();
        for one in &attached {
            assert_eq!(one.mode, XdpMode::Generic, "{attached:?}");
            assert!(one.why.starts_with("it is a veth"), "{}", one.why);
            assert!(one.why.contains("--xdp-mode native"), "{}", one.why);
        }
        ip("link del eth1");
        kernel.on_event();
        lab.cable(&lab.peer, "eth1", "p0", "198.51.100", "2001:db8:2");
        let back = &kernel.on_event().attached[0];
        assert_eq!((back.name.as_str(), back.mode), ("eth1", XdpMode::Generic));
        assert!(back.why.starts_with("all interfaces run in generic mode"), "{}", back.why);
    });
}

/// Whether the interface takes VLAN tags out of frames.
fn strips_tags(name: &str) -> bool {
    let features = ethtool(&format!("-k {name}"));
    let line = features.lines().find(|line| line.starts_with("rx-vlan-offload:")).unwrap();
    line.contains(": on")
}

#[test]
fn tags_stay_in_frames_while_it_is_attached_and_what_was_is_given_back() {
    in_namespace(|| {
        let lab = Lab::new();
        ethtool("-K eth0 rxvlan on");
        ethtool("-K eth1 rxvlan off");
        let (mut kernel, attached) = attach(|_| ()).unwrap();
        assert_eq!((strips_tags("eth0"), strips_tags("eth1")), (false, false));
        assert!(attached[0].why.contains("rx-vlan-offload is off meanwhile"), "{attached:?}");
        assert!(!attached[1].why.contains("rx-vlan-offload"), "it was off before: {attached:?}");

        ip("link del eth1");
        kernel.on_event();
        lab.cable(&lab.peer, "eth1", "p0", "198.51.100", "2001:db8:2");
        ethtool("-K eth1 rxvlan on");
        let attached = kernel.on_event().attached;
        assert!(attached[0].why.contains("rx-vlan-offload is off meanwhile"), "{attached:?}");
        assert!(!strips_tags("eth1"), "it came back");

        ip("link set eth0 down");
        ip("link set eth0 name wan0");
        drop(kernel);
        assert_eq!((strips_tags("wan0"), strips_tags("eth1")), (true, true));
        assert!(becomes_free("wan0") && becomes_free("eth1"));

        let (kernel, _) = attach(|config| config.interfaces = vec!["eth1".into()]).unwrap();
        assert!(attach(|c| c.interfaces = vec!["wan0".into(), "eth1".into()]).is_err());
        assert!(strips_tags("wan0"), "none is attached: eth1 is occupied");
        drop(kernel);
    });
}

/// The sub-interface as the kernel would tell it: not every kernel has VLANs (VLAN_8021Q).
#[test]
fn on_a_veth_whose_vlans_cannot_be_told_apart_auto_leaves_it_to_sockets() {
    let link = |index, name: &str, kind| Link {
        index,
        name: name.to_owned(),
        mac: Some([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        up: true,
        loopback: false,
        kind,
        controller: None,
        program: None,
    };
    let with = |kind| {
        let mut links = Links::default();
        let vlan = link(3, "eth0.7", LinkKind::Vlan { parent: 2, id: 7 });
        links.replace(vec![link(2, "eth0", kind), vlan], vec![]);
        links
    };
    let veth = with(LinkKind::Veth);
    let error = suitable(&veth, "eth0", XdpMode::Auto).unwrap_err();
    assert!(matches!(error, AttachError::TagsUncertain { .. }), "{error}");
    assert!(error.to_string().contains("eth0 is a veth with a VLAN (eth0.7)"), "{error}");
    assert!(suitable(&veth, "eth0", XdpMode::Generic).is_ok(), "as it was asked for");
    assert!(suitable(&with(LinkKind::Device), "eth0", XdpMode::Auto).is_ok());
}

#[test]
fn a_large_mtu_is_refused_in_the_driver_s_words() {
    in_namespace(|| {
        let lab = Lab::new();
        lab.client.ip("link set c0 mtu 9000");
        ip("link set eth0 mtu 9000");
        let error = refusal("eth0", XdpMode::Native);
        assert!(matches!(error, AttachError::MtuTooLarge { mtu: 9000, .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("eth0 (9000)") && text.contains("the driver says"), "{text}");
        assert_eq!(program_on("eth0"), None, "asking for words leaves nothing");
    });
}

#[test]
fn another_program_is_never_pushed_aside() {
    in_namespace(|| {
        let _lab = Lab::new();
        for first in [XdpMode::Native, XdpMode::Generic] {
            assert!(becomes_free("eth0") && becomes_free("eth1"));
            let (_kernel, _) = attach(|config| config.mode = first).unwrap();
            let number = program_on("eth0").unwrap();
            for second in [XdpMode::Native, XdpMode::Generic, XdpMode::Auto] {
                let error = refusal("eth0", second);
                assert!(matches!(error, AttachError::Occupied { .. }), "{error}");
                assert!(error.to_string().contains(&format!("(number {number})")), "{error}");
            }
            assert_eq!(program_on("eth0"), Some(number));
        }
    });
}

#[test]
fn one_interface_that_refuses_means_none_is_attached() {
    in_namespace(|| {
        let _lab = Lab::new();
        let (kernel, _) = attach(|config| config.interfaces = vec!["eth1".into()]).unwrap();
        assert!(attach(|_| ()).is_err(), "eth1 is occupied");
        assert!(becomes_free("eth0"));
        drop(kernel);
    });
}

#[test]
fn missing_capabilities_are_named() {
    in_namespace(|| {
        let _lab = Lab::new();
        let error = with_capabilities(&[], || refusal("eth0", XdpMode::Auto).to_string());
        assert!(error.contains("CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN"), "{error}");
        let error = with_capabilities(&[12], || refusal("eth0", XdpMode::Auto).to_string());
        assert!(error.contains("capabilities CAP_BPF, CAP_PERFMON, which"), "{error}");
    });
}

#[test]
fn three_capabilities_are_enough() {
    in_namespace(|| {
        let _lab = Lab::new();
        let (net_admin, perfmon, bpf) = (12, 38, 39);
        with_capabilities(&[net_admin, perfmon, bpf], || {
            let (mut kernel, attached) = attach(|_| ()).unwrap();
            assert!(attached.iter().all(|one| one.mode == XdpMode::Native));
            // A neighbour that has to be asked for.
            let mut route = route('4', '4');
            route.peer.set_ip([198, 51, 100, 77].into());
            kernel.add_route(&route).unwrap();
            kernel.tick(Duration::from_secs(1 << 30));
            assert_eq!(kernel.stats().network.questions_failed, 0);
            assert_eq!(kernel.stats().clock_corrections, 0);
        });
    });
}

#[test]
fn too_many_relay_addresses_are_refused() {
    let mut config = config();
    config.relay_ips = (0..64).map(|n| [10, 0, 0, n].into()).collect();
    let error = Kernel::attach_here(&config).map(|_| ()).unwrap_err();
    assert!(matches!(error, AttachError::TooManyRelayAddresses { given: 64, most: 63 }));
}

#[test]
fn an_interface_that_comes_back_is_attached_to_again() {
    in_namespace(|| {
        let lab = Lab::new();
        let (mut kernel, _) = attach(|_| ()).unwrap();
        kernel.add_route(&route('4', '4')).unwrap();
        ip("link del eth1");
        let mut changes = kernel.on_event();
        assert_eq!(changes.lost, [("eth1".to_owned(), "the interface is gone".to_owned())]);

        lab.cable(&lab.peer, "eth1", "p0", "198.51.100", "2001:db8:2");
        ip("neigh replace 198.51.100.2 lladdr 02:00:00:00:00:d0 dev eth1 nud permanent");
        changes = kernel.on_event();
        assert_eq!(changes.attached[0].name, "eth1");
        assert!(program_on("eth1").is_some());
        while kernel.on_event().more {}
        let network = kernel.stats().network;
        assert_eq!((network.hops_usable, network.paths_without_hop), (2, 0));
    });
}

#[test]
fn the_maps_at_their_default_size_cost_at_most_64_mib() {
    in_namespace(|| {
        let _lab = Lab::new();
        let (kernel, _) = attach(|config| config.routes_max = 65_536).unwrap();
        let stats = kernel.stats();
        assert!(stats.map_bytes > 16 << 20, "{} bytes: the kernel's own count", stats.map_bytes);
        assert!(stats.map_bytes <= 64 << 20, "{} bytes", stats.map_bytes);
        assert!(stats.entries_max >= 2 * 65_536);
    });
}

const WAIT: &str = "TURNWIRE_TEST_ATTACH_AND_WAIT";

/// Not a test of its own: what the process does that the next one starts and kills.
#[test]
fn attach_and_wait() {
    if std::env::var_os(WAIT).is_none() {
        return;
    }
    let kernel = attach(|_| ()).unwrap();
    println!("attached");
    sleep(Duration::from_secs(60));
    drop(kernel);
}

#[test]
fn a_killed_process_leaves_nothing_attached() {
    in_namespace(|| {
        let _lab = Lab::new();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kernel::tests::attaching::attach_and_wait", "--nocapture"])
            .env(WAIT, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line.contains("attached")));
        assert!(program_on("eth0").is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(becomes_free("eth0") && becomes_free("eth1"), "still attached");
    });
}

#[test]
fn the_kernel_tier_can_live_on_any_thread() {
    fn sendable<T: Send>() {}
    sendable::<Kernel>();
}

/// Takes the program off the first interface.
fn force_off(kernel: &mut Kernel) {
    kernel.network.line().watch().expect("it has no thread").interfaces().force_off(0);
}

#[test]
fn a_program_that_somebody_took_off_is_told_once_and_attached_again_when_that_can_be() {
    in_namespace(|| {
        // given
        let _lab = Lab::new();
        let (mut kernel, _) = attach(|_| ()).unwrap();
        let mut now = Duration::from_secs(1000);
        let mut tick = |kernel: &mut Kernel| {
            now += Duration::from_secs(5);
            let changes = kernel.tick(now);
            let attached: Vec<_> = changes.attached.into_iter().map(|one| one.name).collect();
            let lost: Vec<_> = changes.lost.into_iter().map(|(name, _)| name).collect();
            (lost, attached)
        };
        assert_eq!(tick(&mut kernel), (vec![], vec![]), "nothing happened yet");

        // when another program takes its place
        force_off(&mut kernel);
        let (other, _) = attach(|config| config.interfaces = vec!["eth0".into()]).unwrap();

        // then
        assert_eq!(tick(&mut kernel), (vec!["eth0".to_owned()], vec![]));
        assert!(kernel.attached().map(|(_, name)| name).eq(["eth1"]));
        assert_eq!(tick(&mut kernel), (vec![], vec![]), "it was told");

        // and when that goes
        drop(other);
        assert!(becomes_free("eth0"));
        assert_eq!(tick(&mut kernel), (vec![], vec!["eth0".to_owned()]));
        assert!(kernel.attached().map(|(_, name)| name).eq(["eth0", "eth1"]));

        // and when nobody takes its place
        force_off(&mut kernel);
        assert_eq!(tick(&mut kernel), (vec!["eth0".to_owned()], vec!["eth0".to_owned()]));
        assert_eq!(tick(&mut kernel), (vec![], vec![]));
    });
}
