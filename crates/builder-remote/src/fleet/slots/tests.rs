//! The queue among threads and among real processes, one of which is killed.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use super::*;

const FOLDER: &str = "IMAGESPEC_TEST_SLOTS";
const BOUND: &str = "IMAGESPEC_TEST_BOUND";
const HOLDS: &str = "IMAGESPEC_TEST_HOLDS";

fn slots(folder: &Path, bound: usize) -> Slots {
    Slots::new(folder, NonZeroUsize::new(bound).unwrap())
}

fn enter(slots: &Slots) -> Slot {
    slots.enter(&|| false, &mut |_| {}).unwrap().unwrap()
}

/// Another process, which takes a slot, notes in `log` when it is in and when it leaves, and before that waits for its
/// stdin to end where it is to hold the slot.
fn process(folder: &Path, bound: usize, holds: bool) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "fleet::slots::tests::in_another_process", "--ignored", "--nocapture"]);
    command.env(FOLDER, folder).env(BOUND, bound.to_string()).env(HOLDS, holds.to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

#[test]
#[ignore = "it is what the other tests start in processes of its own"]
fn in_another_process() {
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let slots = slots(&folder, std::env::var(BOUND).unwrap().parse().unwrap());
    let mut log = OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
    let _slot = enter(&slots);
    log.write_all(b"+").unwrap();
    println!("\nin");
    if std::env::var(HOLDS).unwrap() == "true" {
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    }
    for _ in 0..10 {
        log.sync_all().unwrap();
        thread::yield_now();
    }
    log.write_all(b"-").unwrap();
}

/// Waits until the process has its slot.
fn wait_until_in(child: &mut Child) {
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "in"));
}

#[test]
fn thirty_processes_at_once_are_never_more_than_the_bound() {
    let folder = tempfile::tempdir().unwrap();
    let children: Vec<Child> = (0..30).map(|_| process(folder.path(), 3, false)).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert_eq!(log.matches('+').count(), 30);
    let (mut now, mut most) = (0, 0);
    for event in log.chars() {
        now += if event == '+' { 1 } else { -1 };
        most = most.max(now);
    }
    assert!((1..=3).contains(&most), "{log}");
    assert_eq!(slots(folder.path(), 3).load().unwrap(), Load::default());
}

#[test]
fn a_holder_and_a_waiter_that_are_killed_leave_their_places() {
    let folder = tempfile::tempdir().unwrap();
    let slots = slots(folder.path(), 1);
    let mut holder = process(folder.path(), 1, true);
    wait_until_in(&mut holder);
    let waiter = process(folder.path(), 1, true);
    while slots.load().unwrap() != (Load { running: 1, waiting: 1 }) {
        thread::yield_now();
    }
    let ticket = slots.queue().unwrap();
    let mut others = [holder, waiter];
    let mut places = Vec::new();
    let slot = ticket.wait(&|| false, &mut |place| {
        places.push(place);
        let killed = &mut others[place - 1];
        killed.kill().unwrap();
        killed.wait().unwrap();
    });
    assert!(slot.unwrap().is_some());
    assert_eq!(places, [2, 1]);
}

#[test]
fn who_comes_first_is_served_first() {
    let folder = tempfile::tempdir().unwrap();
    let slots = slots(folder.path(), 1);
    let held = enter(&slots);
    let (send, receive) = mpsc::channel();
    let tickets: Vec<Ticket> = (0..5).map(|_| slots.queue().unwrap()).collect();
    assert_eq!(slots.load().unwrap(), Load { running: 1, waiting: 5 });
    let threads: Vec<_> = tickets
        .into_iter()
        .enumerate()
        .rev()
        .map(|(number, ticket)| {
            let send = send.clone();
            thread::spawn(move || {
                let mut places = Vec::new();
                let slot = ticket.wait(&|| false, &mut |place| places.push(place)).unwrap().unwrap();
                // While it has the only slot nobody else says anything.
                send.send(number).unwrap();
                drop(slot);
                places
            })
        })
        .collect();
    drop(held);
    assert_eq!(receive.iter().take(5).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    for thread in threads {
        let places = thread.join().unwrap();
        assert!(places.is_sorted_by(|left, right| left > right), "{places:?}");
    }
}

#[test]
fn who_gives_up_leaves_the_queue() {
    let folder = tempfile::tempdir().unwrap();
    let slots = slots(folder.path(), 1);
    let held = enter(&slots);
    let cancelled = std::cell::Cell::new(false);
    let mut places = Vec::new();
    let given_up = slots.enter(&|| cancelled.get(), &mut |place| {
        places.push(place);
        cancelled.set(true);
    });
    assert!(given_up.unwrap().is_none());
    assert_eq!(places, [1]);
    assert_eq!(slots.load().unwrap(), Load { running: 1, waiting: 0 });
    drop(held);
    assert_eq!(slots.load().unwrap(), Load::default());
}

#[test]
fn who_is_let_in_at_once_is_told_no_place() {
    let folder = tempfile::tempdir().unwrap();
    let slots = slots(&folder.path().join("made/when/it/is/needed"), 2);
    let not_told = &mut |place| panic!("there is no queue, and it has place {place} in it");
    let one = slots.enter(&|| false, not_told).unwrap().unwrap();
    let other = slots.enter(&|| false, not_told).unwrap().unwrap();
    assert_eq!(slots.load().unwrap(), Load { running: 2, waiting: 0 });
    drop((one, other));
}

#[test]
fn files_of_somebody_else_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["ticket-", "ticket-x", "slot-x", "ticket--1", "failed"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    let slots = slots(folder.path(), 1);
    drop(enter(&slots));
    assert_eq!(slots.load().unwrap(), Load::default());
    assert!(folder.path().join("ticket-x").exists());
}
