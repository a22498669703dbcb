//! Frames of known readings, as text.

use std::time::Duration;

use super::*;
use crate::top::rates::Interval;
use crate::top::scrape::Scrape;

/// A busy relay: counters of `scale` for each second since its start.
fn reading(uptime: f64, scale: f64) -> Scrape {
    let count = uptime * scale;
    let mut page = format!(
        "turnwire_build_info{{version=\"0.1.0\",tier=\"xdp\"}} 1\n\
         turnwire_uptime_seconds {uptime}\nprocess_start_time_seconds 1000\n\
         process_cpu_seconds_total {}\nprocess_resident_memory_bytes 123456789\n\
         process_open_fds 65432\nprocess_max_fds 1048576\nprocess_threads 133\n\
         turnwire_allocations 16000\nturnwire_allocations_max 16000\nturnwire_channels 32000\n\
         turnwire_channels_max 32000\nturnwire_xdp_routes 32000\nturnwire_permissions 32000\n\
         turnwire_relay_ports_open 16000\nturnwire_relay_ports 16384\n\
         turnwire_control_events_total {count}\nturnwire_control_turns_total {count}\n\
         turnwire_requests_total{{method=\"allocate\"}} {count}\n",
        uptime * 1.25,
    );
    for tier in ["xdp", "socket", "session", "control"] {
        for direction in ["to_peer", "to_client"] {
            page += &format!(
                "turnwire_forwarded_packets_total{{tier=\"{tier}\",direction=\"{direction}\"}} {count}\n\
                 turnwire_forwarded_bytes_total{{tier=\"{tier}\",direction=\"{direction}\"}} {}\n",
                count * 1200.0
            );
        }
        for (at, reason) in ["no_route", "zero_checksum", "bad_channel_data"].iter().enumerate() {
            let refused = count / (at + 2) as f64;
            page += &format!(
                "turnwire_refused_packets_total{{tier=\"{tier}\",reason=\"{reason}\"}} {refused}\n"
            );
        }
    }
    for (worker, tier, thread) in [(0, "socket", "turnwire-w0"), (1, "session", "turnwire-s0")] {
        page += &format!(
            "turnwire_worker_info{{worker=\"{worker}\",tier=\"{tier}\",core=\"{}\",thread=\"{thread}\"}} 1\n\
             turnwire_thread_cpu_seconds_total{{thread=\"{thread}\"}} {}\n\
             turnwire_thread_waiting_seconds_total{{thread=\"{thread}\"}} {}\n\
             turnwire_worker_forwarded_packets_total{{worker=\"{worker}\",direction=\"to_peer\"}} {count}\n\
             turnwire_worker_packets_total{{worker=\"{worker}\",way=\"in\"}} {count}\n\
             turnwire_worker_packets_total{{worker=\"{worker}\",way=\"out\"}} {count}\n\
             turnwire_worker_messages_total{{worker=\"{worker}\",way=\"in\"}} {}\n\
             turnwire_worker_messages_total{{worker=\"{worker}\",way=\"out\"}} {}\n\
             turnwire_worker_batches_total{{worker=\"{worker}\",size=\"16-31\"}} {}\n\
             turnwire_worker_batches_total{{worker=\"{worker}\",size=\"64+\"}} {}\n\
             turnwire_worker_ring_waiting_bytes{{worker=\"{worker}\",ring=\"to_control\"}} 500\n\
             turnwire_worker_ring_peak_bytes{{worker=\"{worker}\",ring=\"to_control\"}} 1000\n\
             turnwire_worker_ring_size_bytes{{worker=\"{worker}\",ring=\"to_control\"}} 1000\n\
             turnwire_worker_socket_overflows_total{{worker=\"{worker}\"}} {count}\n\
             turnwire_worker_wakeups_total{{worker=\"{worker}\"}} {count}\n\
             turnwire_worker_relay_ports{{worker=\"{worker}\"}} 16000\n",
            if worker == 0 { "127" } else { "" },
            uptime * 0.999,
            uptime * 0.001,
            count / 16.0,
            count / 8.0,
            count / 64.0,
            count / 64.0,
        );
    }
    page += &af_xdp(count);
    for core in 0..3 {
        let count = if core == 1 { 0.0 } else { count };
        page += &format!(
            "turnwire_core_forwarded_packets_total{{tier=\"xdp\",core=\"{core}\",direction=\"to_peer\"}} {count}\n\
             turnwire_core_punted_packets_total{{tier=\"xdp\",core=\"{core}\"}} {}\n",
            count / 4.0
        );
    }
    Scrape::parse(&page).expect("good")
}

/// The first worker's: two queues without copies and one with, and rates that halve.
fn af_xdp(count: f64) -> String {
    let mut page = "turnwire_af_xdp_queues{worker=\"0\",mode=\"copy\"} 1\n\
                    turnwire_af_xdp_queues{worker=\"0\",mode=\"zero_copy\"} 2\n\
                    turnwire_worker_strayed{worker=\"0\"} 1\n\
                    turnwire_worker_strayed{worker=\"1\"} 0\n\
                    turnwire_af_xdp_memory_frames{worker=\"0\",place=\"free\"} 4032\n\
                    turnwire_af_xdp_memory_frames{worker=\"0\",place=\"receiving\"} 4000\n\
                    turnwire_af_xdp_memory_frames{worker=\"0\",place=\"sending\"} 64\n"
        .to_owned();
    page += &format!(
        "turnwire_forwarded_packets_total{{tier=\"af_xdp\",direction=\"to_peer\"}} {}\n",
        count / 2.0
    );
    for (at, way) in ["forwarded", "datagram", "refused"].iter().enumerate() {
        let frames = count / f64::from(2 << at);
        page += &format!("turnwire_af_xdp_frames_total{{worker=\"0\",way=\"{way}\"}} {frames}\n");
    }
    for (size, share) in [("1", 128.0), ("4-7", 64.0), ("64+", 128.0)] {
        let batches = count / share;
        page +=
            &format!("turnwire_af_xdp_batches_total{{worker=\"0\",size=\"{size}\"}} {batches}\n");
    }
    let counters = ["tx_full", "rx_ring_full", "fill_ring_empty", "wakeups", "rx_dropped"];
    for (at, what) in counters.iter().enumerate() {
        let times = count / f64::from(16 << at);
        page += &format!("turnwire_af_xdp_{what}_total{{worker=\"0\"}} {times}\n");
    }
    page
}

fn frame(before: f64, now: f64, scale: f64) -> Frame {
    let (before, now) = (reading(before, scale), reading(now, scale));
    Frame::new(&Interval::new(&before, &now), Duration::from_secs(1_790_000_000))
}

const WIDE: Room = Room { columns: COLUMNS_MIN, lines: None };

#[test]
fn a_frame_says_what_the_relay_did() {
    let text = lines(&frame(100.0, 102.0, 64_000.0), WIDE, &[]).join("\n");
    assert_eq!(
        text,
        "\
turnwire 0.1.0  tier xdp  up 1 min 42 s  over 2.0 s
holds    allocations 16000/16000, channels 32000/32000, 32000 in xdp,
         permissions 32000, relay ports 16000/16384
uses     cpu 125 %, memory 123MB, threads 133, descriptors 65432/1048576

TIER        to peer/s       bit/s   to client/s       bit/s   refused/s
xdp             64.0k        614M         64.0k        614M       69.3k
af_xdp          32.0k           0             0           0           0
socket          64.0k        614M         64.0k        614M       69.3k
session         64.0k        614M         64.0k        614M       69.3k
control         64.0k        614M         64.0k        614M       69.3k
refused  xdp no_route 32.0k/s, socket no_route 32.0k/s,
         session no_route 32.0k/s, control no_route 32.0k/s,
         xdp zero_checksum 21.3k/s, socket zero_checksum 21.3k/s, and 6 more

CONTROL  cpu 0 %  events/s 64.0k  turns/s 64.0k  requests/s 64.0k  successes/s 0
         rings full/s 0  errors none
SESSIONS tcp 0 (+0/s)  tls 0 (+0/s)  dtls 0 (+0/s)  in/s 0  out/s 0
         handshakes/s 0 (0 failed)  queue full/s 0  ended none

WORKER CORE CPU% WAIT% to peer/s to clnt/s   ctl/s refuse/s  wake/s   GRO   GSO
w0     127!  100   0.1     64.0k         0       0        0   64.0k    16     8
s0        -  100   0.1     64.0k         0       0        0   64.0k     -     -

BATCH% mean    1  2-3  4-7 8-15  -31  -63  64+ >ctl  max   >w  max lost/s  ports
w0       32    0    0    0    0   50    0   50   50  100    0    0  64.0k  16.0k
s0        -    0    0    0    0   50    0   50   50  100    0    0  64.0k  16.0k

AF_XDP   q zc   fwd/s dgram/s refuse/s txfull/s lost/s wake/s  recv  send  free
w0       3  2   32.0k   16.0k    8.00k    4.00k  2.25k    500 4.00k    64 4.03k

FRAMES% mean    1  2-3  4-7 8-15  -31  -63  64+  batch/s empty/s  held aside
w0        28   25    0   50    0    0    0   25    2.00k   1.00k     0     0

XDP CORE    to peer/s   to client/s   refused/s to AF_XDP/s
0               64.0k             0           0       16.0k
2               64.0k             0           0       16.0k
1 of 3 cores idle"
    );
}

#[test]
fn no_line_is_longer_than_the_terminal_however_much_is_relayed() {
    for scale in [0.0, 1.0, 999.7, 123_456.0, 98_765_432.0, 1e12] {
        let frame = frame(100.0, 102.0, scale);
        for columns in [80, 100, 200, 40, 1] {
            for line in lines(&frame, Room { columns, lines: None }, &[]) {
                assert!(line.chars().count() <= columns, "{columns}: {line}");
            }
        }
        // and the tables need no cutting at 80
        let uncut = lines(&frame, Room { columns: 1000, lines: None }, &[]);
        let table = uncut.iter().skip_while(|line| !line.starts_with("WORKER"));
        assert!(table.clone().count() > 8);
        for line in table {
            assert!(line.len() <= COLUMNS_MIN, "{scale}: {line}");
        }
    }
}

#[test]
fn a_narrow_window_loses_none_of_what_can_be_wrapped() {
    let frame = frame(100.0, 102.0, 64_000.0);
    let words = |columns| -> String {
        let all = lines(&frame, Room { columns, lines: None }, &[]);
        let table = all.iter().position(|line| line.starts_with("TIER")).expect("a table");
        all[1..table].join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(words(40), words(1000));
}

#[test]
fn a_low_window_says_how_much_is_below_it() {
    let frame = frame(100.0, 102.0, 64_000.0);
    let all = lines(&frame, WIDE, &[]);
    for most in [2, 5, all.len() - 1] {
        let some = lines(&frame, Room { lines: Some(most), ..WIDE }, &[]);
        assert_eq!(some.len(), most);
        assert_eq!(some[..most - 1], all[..most - 1]);
        let more = all.len() + 1 - most;
        assert!(some[most - 1].starts_with(&format!("... {more} lines more")), "{some:?}");
    }
    assert_eq!(lines(&frame, Room { lines: Some(all.len()), ..WIDE }, &[]), all);
}

#[test]
fn parts_alone_are_the_title_and_these_in_their_order() {
    let frame = frame(100.0, 102.0, 64_000.0);
    let all = lines(&frame, WIDE, &[]);
    let some = lines(&frame, WIDE, &[Part::Cores, Part::Batches]);
    assert_eq!(some[0], all[0]);
    assert!(some[2].starts_with("BATCH% mean") && some[6].starts_with("XDP CORE"), "{some:?}");
    assert_eq!(some.len(), 10, "{some:?}");
    assert!(some.iter().all(|line| all.contains(line)));
    assert_eq!(lines(&frame, WIDE, Part::value_variants()), all);
}

#[test]
fn a_restart_is_told_and_an_idle_relay_is_all_zero() {
    let text = lines(&frame(100.0, 4.0, 10.0), WIDE, &[]).join("\n");
    assert!(text.contains("up 4 s  over 4.0 s\nstarted anew"), "{text}");
    assert!(text.contains("\nxdp                10"), "{text}");
    let text = lines(&frame(100.0, 102.0, 0.0), WIDE, &[]).join("\n");
    assert!(text.contains("\nrefused  nothing\n"), "{text}");
    assert!(text.contains("\nw0     127!  100   0.1         0"), "{text}");
}

#[test]
fn as_json_a_frame_has_the_fields_that_are_documented() {
    let value = serde_json::to_value(frame(100.0, 102.0, 64.0)).expect("JSON");
    let top: Vec<&String> = value.as_object().expect("an object").keys().collect();
    assert!(top.len() == 17, "{top:?}");
    let help = crate::top::HELP;
    let mut waiting = vec![&value];
    while let Some(value) = waiting.pop() {
        for (key, inner) in value.as_object().into_iter().flatten() {
            assert!(
                help.contains(key.as_str()) || key.starts_with("ring_"),
                "{key} is not in --help"
            );
            waiting.push(inner);
        }
        waiting.extend(value.as_array().into_iter().flatten());
    }
    assert_eq!(value["workers"][0]["gathered_in"], 16.0);
    assert!(value["workers"][1]["batch_mean"].is_null() && value["workers"][1]["core"].is_null());
    assert_eq!(value["workers"][0]["frames"]["zero_copy"], 2.0);
    assert!(value["workers"][1]["frames"].is_null());
    assert_eq!(value["workers"][0]["frames"]["batch_mean"], 28.0);
    assert_eq!(value["cores"][0]["punted_per_sec"], 16.0);
    assert_eq!(value["tiers"][0]["to_peer"]["packets_per_sec"], 64.0);
}
