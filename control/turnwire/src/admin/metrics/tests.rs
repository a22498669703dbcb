//! The whole page, rendered of numbers that are known.

use std::collections::HashSet;

use dataplane::stats::{Traffic, WorkerSnapshot};

use super::*;

fn worker() -> WorkerSnapshot {
    WorkerSnapshot {
        running: true,
        received: 10,
        forwarded: [Traffic { packets: 4, bytes: 400 }, Traffic { packets: 3, bytes: 300 }],
        inner: 0,
        refused: [[0; Reason::COUNT]; 2],
        clients_to_control: 2,
        peers_to_control: 1,
        sent_to_peers: 0,
        sent_to_clients: 2,
        refused_control: [0; Reason::COUNT],
        wakeups: 7,
        batches: [0; dataplane::stats::BATCH_CLASSES],
        ports: 1,
        indications: [1, 1],
        ..WorkerSnapshot::default()
    }
}

fn snapshot() -> Snapshot {
    let mut workers = vec![worker(), worker()];
    workers[1].indications[0] = 2;
    workers[1].refused[0][Reason::NoRoute as usize] = 5;
    workers[1].refused[1][Reason::RingFull as usize] = 6;
    let mut control = Stats::default();
    control.requests[Request::Allocate as usize] = 9;
    let unauthenticated = Stats::CODES.iter().position(|code| code.value() == 401);
    control.errors[unauthenticated.expect("a code that is counted")] = 8;
    control.refused[turn::Reason::PeerForbidden] = 3;
    control.allocations = 2;
    control.channels = 4;
    let about = About {
        tier: "socket",
        interfaces: vec![("eth\"0".to_owned(), "native".to_owned())],
        cores: vec![Some(3), None],
        allocations_max: 100,
        channels_max: 200,
        relay_ports: 16384,
    };
    Snapshot {
        about: Arc::new(about),
        uptime: Duration::from_millis(1500),
        control,
        plane: Plane {
            workers,
            sessions: Vec::new(),
            refused_control: [0; Reason::COUNT],
            routes: 4,
            table_size: 4096,
            permits: 6,
            permits_refused: 1,
        },
        kernel: None,
        keeper: None,
        counts: Counts::default(),
        peers: PeerCounts { accepted: 3, ..PeerCounts::default() },
        reloads: ReloadCounts { ok: 2, failed: 1, restart_needed: 0 },
        draining: true,
        strayed: vec![(0, true)],
        open_ports: 2,
    }
}

#[test]
fn the_page_says_what_an_operator_looks_for_first() {
    // given
    let process = Process { resident_bytes: Some(1 << 20), ..Process::default() };
    // when
    let page = render(&snapshot(), &process);
    // then
    for line in [
        r#"turnwire_forwarded_packets_total{tier="socket",direction="to_peer"} 8"#,
        r#"turnwire_socket_indications_total{direction="to_peer"} 3"#,
        r#"turnwire_socket_indications_total{direction="to_client"} 2"#,
        "turnwire_permits 6",
        "turnwire_permits_refused_total 1",
        r#"turnwire_forwarded_bytes_total{tier="socket",direction="to_client"} 600"#,
        r#"turnwire_forwarded_packets_total{tier="xdp",direction="to_peer"} 0"#,
        r#"turnwire_refused_packets_total{tier="socket",reason="no_route"} 5"#,
        r#"turnwire_refused_packets_total{tier="control",reason="peer_forbidden"} 3"#,
        r#"turnwire_core_forwarded_packets_total{tier="socket",core="3",direction="to_peer"} 4"#,
        r#"turnwire_core_forwarded_packets_total{tier="socket",core="w1",direction="to_peer"} 4"#,
        r#"turnwire_ring_dropped_packets_total{ring="to_control"} 6"#,
        r#"turnwire_requests_total{method="allocate"} 9"#,
        r#"turnwire_error_responses_total{code="401"} 8"#,
        r#"turnwire_xdp_interface_info{interface="eth\"0",mode="native"} 1"#,
        r#"turnwire_build_info{version="0.1.0",tier="socket"} 1"#,
        r#"turnwire_worker_info{worker="0",tier="socket",core="3",thread="turnwire-w0"} 1"#,
        r#"turnwire_worker_forwarded_bytes_total{worker="1",direction="to_client"} 300"#,
        r#"turnwire_worker_packets_total{worker="0",way="out"} 9"#,
        r#"turnwire_worker_refused_packets_total{worker="1",reason="ring_full"} 6"#,
        r#"turnwire_worker_batches_total{worker="0",size="2-3"} 0"#,
        r#"turnwire_worker_ring_size_bytes{worker="1",ring="to_worker"} 0"#,
        "turnwire_control_events_total 0",
        "turnwire_allocations 2",
        r#"turnwire_reloads_total{result="failed"} 1"#,
        "turnwire_draining 1",
        r#"turnwire_tcp_peers_total{result="accepted"} 3"#,
        r#"turnwire_connections{transport="tls"} 0"#,
        "turnwire_channels 4",
        "turnwire_map_memory_bytes 0",
        "turnwire_uptime_seconds 1.500",
        "process_resident_memory_bytes 1048576",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is missing in\n{page}");
    }
    assert!(!page.contains("process_open_fds"), "what is not known is left out");
}

#[test]
fn every_sample_has_a_family_with_help_and_type_and_no_series_appears_twice() {
    // given
    let page = render(&snapshot(), &Process::default());
    let (mut families, mut series, mut current) = (HashSet::new(), HashSet::new(), String::new());
    // when, then
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').expect("a name and a text");
            assert!(text.ends_with('.'), "{line}");
            assert!(families.insert(name.to_owned()), "{name} twice");
            current = name.to_owned();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a name and a type");
            assert_eq!(name, current);
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        } else {
            let (name, value) = line.rsplit_once(' ').expect("a series and a value");
            assert!(series.insert(name.to_owned()), "{name} twice");
            assert_eq!(name.split('{').next(), Some(current.as_str()));
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
}
