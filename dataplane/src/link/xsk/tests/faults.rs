//! What refuses, fails, runs dry and goes away.

use std::time::Duration;

use super::super::queue::{Trouble, trouble};
use super::super::*;
use super::lab::*;
use crate::kernel::testing::{ip, monotonic, with_capabilities};

fn umem(frames: u32) -> Umem {
    Umem::new(frames, FrameSize::Bytes2048).expect("memory")
}

/// All frames are free once the kernel's time to let go of them is over.
#[track_caller]
fn all_free(umem: &mut Umem) {
    umem.settle(Duration::from_secs(100));
    umem.settle(Duration::from_secs(100) + STRANDED);
    let census = umem.census();
    assert_eq!((census.free, census.total()), (umem.frames(), umem.frames()), "{census:?}");
}

#[test]
fn what_cannot_be_opened_says_why_and_keeps_no_frame() {
    in_lab(|lab| {
        let mut memory = umem(256);
        let options = Options { entries: 64, copying: Copying::Copy, ..Options::default() };
        let mut refuse = |name: &str, number, options: &Options| {
            let error = Queue::open(name, number, &mut memory, options).expect_err("it is refused");
            assert_eq!(memory.free(), 256, "{error}");
            error.to_string()
        };
        assert_eq!(refuse("nosuch0", 0, &options), "there is no interface nosuch0");
        let words = refuse(&lab.near, 7, &options);
        assert_eq!(words, "interface x0 has no queue 7: it has 2, numbered from 0");
        let zero = Options { copying: Copying::Zero, ..options };
        let words = refuse(&lab.near, 0, &zero);
        assert_eq!(words, "the driver of interface x0 cannot do AF_XDP without copies on queue 0");
        let odd = Options { entries: 100, ..options };
        assert!(
            refuse(&lab.near, 0, &odd).starts_with("making its rings, queue 0 of interface x0")
        );

        let mut other = umem(256);
        let queue = open(&lab.near, 0, &mut other, 64);
        let words = refuse(&lab.near, 0, &options);
        assert_eq!(words, "queue 0 of interface x0 is in use by another AF_XDP socket");
        drop(queue);
        all_free(&mut other);
    });
}

#[test]
fn without_the_privilege_or_the_memory_it_says_so() {
    const NET_RAW: u32 = 13;
    in_lab(|lab| {
        let near = lab.near.clone();
        let options = Options { entries: 64, ..Options::default() };
        let mut memory = umem(64);
        let refused = with_capabilities(&[], || Queue::open(&near, 0, &mut memory, &options));
        assert!(matches!(refused, Err(Error::NoPrivilege)), "{refused:?}");

        // more than any limit but none at all
        let mut large = Umem::new(FRAMES_MAX, FrameSize::Bytes4096).expect("memory");
        let refused = with_capabilities(&[NET_RAW], || Queue::open(&near, 0, &mut large, &options));
        match refused {
            Err(Error::MemoryLock { bytes }) => assert_eq!(bytes, 256 << 20),
            Ok(_) => eprintln!("skipped: no limit to locked memory here"),
            Err(error) => panic!("{error}"),
        }
        assert_eq!(memory.free(), 64);
    });
}

#[test]
fn a_full_tx_ring_gives_the_frame_back_and_a_link_that_was_down_sends_what_waited() {
    in_lab(|lab| {
        let mut memory = umem(256);
        let mut queue = open(&lab.near, 0, &mut memory, 64);
        let frame = |memory: &mut Umem| {
            let mut frame = memory.take().expect("a free frame");
            frame.set_size(60).expect("it fits");
            memory.bytes_mut(&mut frame).fill(0);
            frame
        };
        ip(&format!("link set {} down", lab.near));
        for _ in 0..64 {
            let one = frame(&mut memory);
            queue.transmit(&mut memory, one).expect("room");
        }
        let one = frame(&mut memory);
        let back = queue.transmit(&mut memory, one).expect_err("the ring is full");
        memory.give(back);
        assert_eq!(queue.counts().tx_full, 1);
        assert!(matches!(queue.flush(), Err(Error::Down { .. })));
        assert!(matches!(queue.check(), Err(Error::Down { .. })));
        assert_eq!((queue.waiting(), memory.census().sent), (64, 64));

        ip(&format!("link set {} up", lab.near));
        let started = monotonic();
        while memory.census().sent > 0 {
            assert!(monotonic() - started < PATIENCE, "{queue:?} {:?}", queue.counts());
            queue.flush().expect("it is up");
            queue.reclaim(&mut memory);
        }
        assert_eq!((queue.waiting(), queue.counts().completed), (0, 64));
    });
}

#[test]
fn too_short_a_frame_is_given_back_and_not_swallowed() {
    in_lab(|lab| {
        let mut memory = umem(128);
        let mut queue = open(&lab.near, 0, &mut memory, 64);
        let frame = memory.take().expect("a free frame");
        let frame = queue.transmit(&mut memory, frame).expect_err("it is empty");
        memory.give(frame);
        assert_eq!((queue.counts().tx_short, memory.census().sent), (1, 0));
    });
}

#[test]
fn a_starved_queue_is_counted_and_goes_on_when_there_are_frames_again() {
    in_lab(|lab| {
        // given one queue's worth of frames, and another's hands that hold them all
        ip(&format!("link set {} up", lab.near));
        let mut divert = Divert::attach(&lab.near);
        let mut memory = umem(64);
        let queues = [0, 1].map(|number| open(&lab.near, number, &mut memory, 64));
        queues.iter().for_each(|queue| divert.add(queue));
        assert_eq!(memory.free(), 0, "the first queue has them all");
        let mut reflector = Reflector::new(memory, queues.into());
        reflector.turn();
        assert!(reflector.queues[1].counts().starved > 0, "{reflector:?}");

        // when datagrams come by that queue, they are lost, and the kernel counts them
        let far = std::sync::Arc::clone(&lab.far);
        let lost = |reflector: &Reflector| {
            let statistics = reflector.queues[1].statistics().expect("it has some");
            statistics.fill_ring_empty > 0
        };
        let started = monotonic();
        let mut port = 5000;
        while !lost(&reflector) {
            assert!(monotonic() - started < PATIENCE, "{reflector:?}");
            far.run(move || far_socket(2, port).send(b"by either queue").expect("it sends"));
            port += 1;
            reflector.turn();
        }

        // then frames are there again, and answers come
        let first = reflector.queues.remove(0);
        drop(first);
        all_free_but(&mut reflector.umem, 0);
        reflector.turn();
        assert!(reflector.umem.census().filled > 0, "{reflector:?}");
        let received = reflector.queues[0].counts().received;
        let answered = move |reflector: &Reflector| {
            far.run(move || far_socket(2, port).send(b"by either queue").expect("it sends"));
            port += 1;
            reflector.queues[0].counts().received > received
        };
        let mut answered = answered;
        reflector.turn_until("a datagram", move |reflector| answered(reflector));
    });
}

/// As [`all_free`], with `filled` frames still at work.
#[track_caller]
fn all_free_but(umem: &mut Umem, filled: u32) {
    umem.settle(Duration::from_secs(200));
    let stranded = umem.census().stranded;
    assert!(stranded > 0, "{:?}", umem.census());
    umem.settle(Duration::from_secs(200) + STRANDED - Duration::from_millis(1));
    assert_eq!(umem.census().stranded, stranded, "not before its time");
    umem.settle(Duration::from_secs(200) + STRANDED);
    let census = umem.census();
    assert_eq!((census.stranded, census.filled), (0, filled), "{census:?}");
}

#[test]
fn an_interface_that_vanishes_is_noticed_and_its_frames_come_back_for_the_next() {
    in_lab(|lab| {
        let mut memory = umem(512);
        let mut queue = open(&lab.near, 0, &mut memory, 128);
        queue.check().expect("it is there");
        assert_eq!(memory.census().filled, 128);
        ip(&format!("link del {}", lab.near));
        assert!(matches!(queue.check(), Err(Error::Gone { queue: 0, .. })));
        let mut frame = memory.take().expect("a free frame");
        frame.set_size(60).expect("it fits");
        queue.transmit(&mut memory, frame).expect("the ring is there still");
        assert!(matches!(queue.flush(), Err(Error::Gone { .. })));
        drop(queue);
        all_free(&mut memory);

        // and another of that name is opened with the same memory
        ip(&cable_between(&lab.near, "x2", lab.far.id));
        ip(&format!("link set {} up", lab.near));
        let mut queue = open(&lab.near, 0, &mut memory, 128);
        queue.check().expect("it is there");
        assert!(!queue.mode().shared);
    });
}

#[test]
fn the_memory_serves_on_when_the_queue_that_brought_it_to_the_kernel_is_gone() {
    in_lab(|lab| {
        let mut memory = umem(512);
        let first = open(&lab.near, 0, &mut memory, 64);
        let second = open(&lab.near, 1, &mut memory, 64);
        assert!(second.mode().shared);
        drop(first);
        // the kernel lets go of a queue a little after its socket is closed
        let started = monotonic();
        let options = Options { entries: 64, copying: Copying::Copy, ..Options::default() };
        let third = loop {
            match Queue::open(&lab.near, 0, &mut memory, &options) {
                Ok(queue) => break queue,
                Err(Error::InUse { .. }) if monotonic() - started < PATIENCE => {}
                Err(error) => panic!("{error}"),
            }
        };
        assert!(third.mode().shared, "with the second");
        drop((second, third));
        all_free(&mut memory);
    });
}

#[test]
fn preferred_busy_polling_is_an_option() {
    in_lab(|lab| {
        let mut memory = umem(256);
        let busy_poll = Some(BusyPoll { micros: 20, budget: 64 });
        let options = Options { entries: 64, busy_poll, copying: Copying::Copy };
        let mut queue = Queue::open(&lab.near, 0, &mut memory, &options).expect("it opens");
        queue.flush().expect("it polls");
        assert_eq!((queue.mode().busy_poll, queue.counts().rx_wakeups), (true, 1));
    });
}

#[test]
fn facts_come_before_a_socket() {
    in_lab(|lab| {
        assert_eq!(queues(&lab.near).expect("it is there"), 2);
        // kernels before 6.3 do not say
        if let Some(features) = Features::of(&lab.near).expect("it is there") {
            assert!(features.native() && !features.zero_copy(), "{features:?}");
            assert_eq!(zero_copy_advertised(&lab.near).expect("it is there"), Some(false));
        }
        assert!(Features::of("nosuch0").is_err() && queues("nosuch0").is_err());
    });
}

#[test]
fn what_passes_by_itself_is_told_from_what_does_not() {
    for later in [libc::EAGAIN, libc::EBUSY, libc::ENOBUFS, libc::EINTR] {
        assert_eq!(trouble(later), Trouble::Later);
    }
    assert_eq!(trouble(libc::ENETDOWN), Trouble::Down);
    assert_eq!((trouble(libc::ENXIO), trouble(libc::ENODEV)), (Trouble::Gone, Trouble::Gone));
    assert_eq!(trouble(libc::EINVAL), Trouble::Other);
}
