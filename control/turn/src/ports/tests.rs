//! Ports are given out at random, each once, and rest before they are given out again.

use std::collections::HashSet;

use super::*;
use crate::random::Seeded;

const T0: Duration = Duration::from_secs(1_000);

#[test]
fn every_port_is_given_out_once_and_then_none() {
    let mut random = Seeded::new(1);
    let mut ports = Ports::new(50_000..=50_999);
    let taken: HashSet<u16> = (0..1000).map(|_| ports.take(T0, &mut random).unwrap()).collect();
    assert_eq!(taken.len(), 1000);
    assert!(taken.iter().all(|port| (50_000..=50_999).contains(port)));
    assert_eq!(ports.take(T0, &mut random), None);
    assert_eq!(ports.take_even(T0, &mut random), None);
    assert_eq!(ports.take_pair(T0, &mut random), None);
    assert_eq!(ports.free_len(), 0);
}

#[test]
fn the_first_draw_is_uniform() {
    let mut random = Seeded::new(2);
    let mut seen = [0u32; 16];
    for _ in 0..16_000 {
        let mut ports = Ports::new(100..=115);
        seen[usize::from(ports.take(T0, &mut random).unwrap() - 100)] += 1;
    }
    assert!(seen.iter().all(|&n| (850..1150).contains(&n)), "{seen:?}");
}

#[test]
fn a_freed_port_comes_back_late_and_never_within_its_cooling() {
    let mut random = Seeded::new(3);
    let mut ports = Ports::new(1000..=1999);
    let mut now = T0;
    let mut freed = std::collections::HashMap::new();
    let mut soonest = u32::MAX;
    for round in 0..20_000u32 {
        now += Duration::from_secs(1);
        let port = ports.take(now, &mut random).unwrap();
        if let Some((at, before)) = freed.insert(port, (now, round)) {
            assert!(now - at >= COOLING, "port {port} was reused after {:?}", now - at);
            soonest = soonest.min(round - before);
        }
        ports.free(port, now);
    }
    // Oldest first, once three quarters of the range lie in the queue.
    assert!(soonest >= 600, "a port was reused after {soonest} other draws");
    assert_eq!(ports.free_len(), 1000);
}

#[test]
fn a_hot_port_is_reused_when_nothing_else_is_left_oldest_first() {
    let mut random = Seeded::new(4);
    let mut ports = Ports::new(10..=13);
    for _ in 0..4 {
        ports.take(T0, &mut random);
    }
    for (n, port) in [12, 11, 10, 13].into_iter().enumerate() {
        ports.free(port, T0 + Duration::from_secs(n as u64));
    }
    let now = T0 + Duration::from_secs(5);
    assert_eq!(ports.take(now, &mut random), Some(12));
    assert_eq!(ports.take(now, &mut random), Some(11));
    assert_eq!(ports.take_even(now, &mut random), Some(10));
    assert_eq!(ports.take(now, &mut random), Some(13));
}

#[test]
fn even_ports_are_even_and_pairs_are_pairs_to_the_last() {
    let mut random = Seeded::new(5);
    let mut ports = Ports::new(2001..=2100);
    // 2001 has no even sibling below, 2100 none above: 49 pairs.
    for _ in 0..49 {
        let even = ports.take_pair(T0, &mut random).unwrap();
        assert_eq!(even % 2, 0);
        assert!(!ports.take_exactly(even + 1), "the sibling is taken with it");
    }
    assert_eq!(ports.take_pair(T0, &mut random), None);
    assert_eq!(ports.take_even(T0, &mut random), Some(2100));
    assert_eq!(ports.take_even(T0, &mut random), None);
    assert_eq!(ports.take(T0, &mut random), Some(2001));
    assert_eq!(ports.free_len(), 0);
}

#[test]
fn a_lone_even_port_leaves_its_sibling_free() {
    let mut random = Seeded::new(6);
    let mut ports = Ports::new(40..=41);
    assert_eq!(ports.take_even(T0, &mut random), Some(40));
    assert_eq!(ports.take(T0, &mut random), Some(41));
}

#[test]
fn the_ends_of_the_port_space_work() {
    let mut random = Seeded::new(7);
    let mut ports = Ports::new(65_534..=65_535);
    assert_eq!(ports.take_pair(T0, &mut random), Some(65_534));
    let mut ports = Ports::new(0..=2);
    assert_eq!(ports.len(), 2, "port 0 is no port");
    assert_eq!(ports.take_pair(T0, &mut random), None);
}

#[test]
fn random_use_keeps_the_books() {
    let seed = 8;
    println!("seed {seed}");
    let mut random = Seeded::new(seed);
    let mut ports = Ports::new(300..=399);
    let mut taken: Vec<u16> = Vec::new();
    for step in 0..50_000u64 {
        let now = T0 + Duration::from_millis(step * 250);
        let got = match random.below(6) {
            0 => ports.take(now, &mut random),
            1 => ports.take_even(now, &mut random),
            2 => ports.take_pair(now, &mut random),
            3 => {
                let port = 300 + random.below(100) as u16;
                ports.take_exactly(port).then_some(port).inspect(|_| {
                    // `take_pair` below tells two ports by their absence; nothing to add here.
                })
            }
            _ => {
                if !taken.is_empty() {
                    let port = taken.swap_remove(random.below(taken.len()));
                    ports.free(port, now);
                    ports.free(port, now);
                }
                None
            }
        };
        if let Some(port) = got {
            assert!(!taken.contains(&port), "step {step}: {port} was given out twice");
            taken.push(port);
            let pair = port % 2 == 0 && port < 399 && !taken.contains(&(port + 1));
            if pair && ports.state_of(port + 1) == Some(State::Taken) {
                taken.push(port + 1);
            }
        }
        assert_eq!(ports.free_len() + taken.len(), 100, "step {step}");
    }
}
