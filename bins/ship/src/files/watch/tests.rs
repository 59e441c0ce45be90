use super::*;

#[tokio::test]
async fn writes_and_new_names_wake_differently() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.log");
    std::fs::write(&file, "x").unwrap();
    let mut watch = Watch::new(Duration::ZERO);
    watch.follow(&[dir.path().to_owned()].into(), 1);
    std::fs::OpenOptions::new()
        .append(true)
        .open(&file)
        .and_then(|mut f| std::io::Write::write_all(&mut f, b"y"))
        .unwrap();
    assert_eq!(watch.next(false, false).await, Wake::Written);
    std::fs::rename(&file, dir.path().join("a.log.1")).unwrap();
    assert_eq!(watch.next(false, false).await, Wake::Scan);
}

#[tokio::test]
async fn a_queue_that_ran_over_is_a_scan() {
    let watch = &mut Watch::new(Duration::ZERO);
    let event = notify::Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
    watch.changes.handle(&Ok(event));
    assert_eq!(watch.next(false, false).await, Wake::Scan);
    watch.changes.handle(&Err(notify::Error::generic("cannot read events")));
    assert_eq!(watch.next(false, false).await, Wake::Scan);
}

#[tokio::test]
async fn a_flood_is_not_listened_to_until_it_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut watch = Watch::new(Duration::ZERO);
    watch.follow(&[dir.path().to_owned()].into(), 1);
    watch.changes.events.store(FLOOD, Ordering::Relaxed);
    watch.flood.counted = Instant::now() - RATE_TIME;
    watch.judge_rate();
    assert!(watch.flood.since.is_some() && watch.watcher.is_none());
    // The first comparison has nothing to compare with, and the directory may be as young as the tick.
    watch.flood.compared = Instant::now() - POLL;
    while watch.next(false, false).await == Wake::Scan {
        watch.flood.compared = Instant::now() - POLL;
    }
    std::fs::write(dir.path().join("new.log"), "x").unwrap();
    watch.flood.compared = Instant::now() - POLL;
    assert_eq!(watch.next(false, false).await, Wake::Scan);
    watch.flood.since = Some(Instant::now() - TRIAL);
    assert_eq!(watch.next(false, false).await, Wake::Scan);
    assert!(watch.flood.since.is_none() && watch.watched.len() == 1);
}

#[tokio::test]
async fn names_that_change_all_the_time_are_looked_at_now_and_then() {
    let mut watch = Watch::new(Duration::ZERO);
    watch.scanning = Some(Instant::now() - POLL);
    watch.follow(&BTreeSet::new(), 1);
    watch.changes.note(SCAN);
    assert_eq!(watch.next(false, false).await, Wake::Written, "reading that directory takes long");
    assert_eq!(watch.next(false, false).await, Wake::Scan, "but it is not forgotten");
}

#[tokio::test]
async fn what_other_nodes_write_is_polled_for() {
    let mut watch = Watch::new(Duration::ZERO);
    watch.remote.insert("/nfs".into());
    assert_eq!(watch.next(false, false).await, Wake::Scan);
}

#[tokio::test]
async fn a_scan_that_is_due_comes_while_writes_never_pause() {
    let mut watch = Watch::new(Duration::ZERO);
    watch.scanned = Instant::now() - POLL;
    watch.changes.note(WRITTEN);
    assert_eq!(watch.next(true, false).await, Wake::Scan);
    watch.scanned = Instant::now();
    watch.changes.note(WRITTEN);
    assert_eq!(watch.next(true, false).await, Wake::Written);
}

#[tokio::test]
async fn reading_wakes_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.log");
    std::fs::write(&file, "x").unwrap();
    let mut watch = Watch::new(Duration::ZERO);
    watch.follow(&[dir.path().to_owned()].into(), 1);
    std::fs::read(&file).unwrap();
    let woken = tokio::time::timeout(Duration::from_millis(200), watch.next(false, false)).await;
    assert!(woken.is_err(), "{woken:?}");
}
