//! A follower's picture is exact, however busy the house is when it begins to follow.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Instant,
};

use tokio::sync::broadcast::error::TryRecvError;

use super::*;
use crate::session::registry::{CallFacts, Claim, Limits, Registry};

fn registry() -> Arc<Registry> {
    Registry::new(Limits::of(100, Duration::ZERO))
}

/// Each claim of the same call brings a newer token.
fn claim(registry: &Arc<Registry>, number: usize, token: u64) -> Claim {
    let facts = CallFacts {
        call: format!("CA{number:032x}").parse().unwrap(),
        stream: "MZ0123456789abcdef0123456789abcdef".parse().unwrap(),
        from: "+1".into(),
        to: "+2".into(),
        agent: "able",
        route: None,
        known: Default::default(),
        token_expires_unix: token,
    };
    registry.claim(facts, Instant::now()).unwrap()
}

#[derive(Debug, Default, PartialEq)]
struct Call {
    connected: bool,
    paused: bool,
    ending: bool,
    barge_ins: u64,
    away: Option<Away>,
}

/// What somebody who follows believes.
#[derive(Debug, PartialEq)]
struct Picture {
    calls: HashMap<CallSid, Call>,
    draining: bool,
}

impl Picture {
    fn of(followed: &Followed) -> Picture {
        let calls = followed.calls.iter().map(|seen| {
            let call = Call {
                connected: seen.agent_connected,
                paused: seen.paused,
                ending: seen.ending,
                barge_ins: seen.barge_ins,
                away: seen.away,
            };
            (seen.view.facts.call, call)
        });
        Picture {
            calls: calls.collect(),
            draining: followed.draining,
        }
    }

    /// Every piece of news must be one.
    fn hear(&mut self, told: &Told) {
        if let News::Draining(draining) = told.news {
            assert_ne!(std::mem::replace(&mut self.draining, draining), draining);
            return;
        }
        let sid = told.call.expect("a call");
        match told.news {
            News::Started(_) => {
                assert!(self.calls.insert(sid, Call::default()).is_none());
                return;
            }
            News::Ended { .. } => {
                assert!(self.calls.remove(&sid).is_some());
                return;
            }
            _ => {}
        }
        let call = self.calls.get_mut(&sid).expect("a call that is known");
        let (flag, now) = match told.news {
            News::AgentConnected => (&mut call.connected, true),
            News::AgentClosed => (&mut call.connected, false),
            News::Paused => (&mut call.paused, true),
            News::Resumed => (&mut call.paused, false),
            News::HangingUp(_) => (&mut call.ending, true),
            News::GoodbyeWithdrawn => (&mut call.ending, false),
            News::BargeIn => {
                call.barge_ins += 1;
                return;
            }
            News::Away { why } => {
                assert_ne!(call.away.replace(why), Some(why));
                return;
            }
            News::Back => {
                assert!(call.away.take().is_some());
                return;
            }
            _ => panic!("no such news here"),
        };
        assert_ne!(std::mem::replace(flag, now), now);
    }
}

#[test]
fn nothing_is_missed_and_nothing_told_twice() {
    let registry = registry();
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        for number in 0..3 {
            let (registry, enough) = (&registry, &enough);
            scope.spawn(move || {
                let mut token = 1;
                while !enough.load(Relaxed) {
                    let mut claim = claim(registry, number, token);
                    token += 1;
                    for news in [
                        News::AgentConnected,
                        News::Paused,
                        News::BargeIn,
                        News::Paused,
                        News::Resumed,
                        News::Back,
                        News::Away { why: Away::Digits },
                        News::Away {
                            why: Away::Transfer,
                        },
                        News::Away {
                            why: Away::Transfer,
                        },
                        News::Back,
                        News::Back,
                        News::HangingUp(Cause::AgentHungUp),
                        News::GoodbyeWithdrawn,
                        News::GoodbyeWithdrawn,
                        News::AgentClosed,
                        News::AgentClosed,
                    ] {
                        claim.tell(news);
                    }
                    registry.set_draining(token % 3 == 0);
                    claim.over(Cause::AgentHungUp);
                }
            });
        }
        let mut heard = 0;
        for _ in 0..500 {
            let mut followed = registry.follow();
            let mut picture = Picture::of(&followed);
            for _ in 0..100 {
                match followed.news.try_recv() {
                    Ok(told) => {
                        heard += 1;
                        picture.hear(&told);
                    }
                    Err(TryRecvError::Empty) => thread::yield_now(),
                    Err(TryRecvError::Lagged(_) | TryRecvError::Closed) => break,
                }
            }
        }
        enough.store(true, Relaxed);
        assert!(heard > 0);
    });
}

#[test]
fn whoever_follows_sees_at_last_what_the_register_shows() {
    let registry = registry();
    let early = registry.follow();
    let mut picture = Picture::of(&early);
    let mut news = early.news;
    let calls: Vec<_> = (0..20).map(|number| claim(&registry, number, 1)).collect();
    for (number, call) in calls.iter().enumerate() {
        if number % 2 == 0 {
            call.tell(News::AgentConnected);
        }
        if number % 3 == 0 {
            call.tell(News::Paused);
            call.tell(News::BargeIn);
        }
        if number % 5 == 0 {
            call.tell(News::Away {
                why: Away::Transfer,
            });
        }
    }
    drop(calls.into_iter().take(7).collect::<Vec<_>>());
    registry.stop();
    while let Ok(told) = news.try_recv() {
        picture.hear(&told);
    }
    assert_eq!(picture, Picture::of(&registry.follow()));
    assert!(picture.draining);
}

#[test]
fn without_a_follower_nothing_is_put_together() {
    let registry = registry();
    let claim = claim(&registry, 1, 1);
    let weight = Arc::strong_count(&claim.view);
    drop(registry.follow());
    claim.tell(News::BargeIn);
    let mut followed = registry.follow();
    assert!(followed.news.try_recv().is_err());
    assert_eq!(followed.calls[0].barge_ins, 1);
    drop(followed);
    assert_eq!(Arc::strong_count(&claim.view), weight);
}
