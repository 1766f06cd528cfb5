//! What the system keeps wired: exactly the members of residency sets, as far as it recommends.

use dacapo::{DType, MetalReplay, ResidencySet, Result};
use dacapo_metal_sim::classes;

use super::{Chain, Turn, assert_silent};

/// What a buffer of so many F32 takes: it has room to spare, its length rounded up to 256 bytes, and 256 more.
fn bytes(len: usize) -> usize {
    (4 * len).next_multiple_of(256) + 256
}

#[test]
fn residency_is_exact() -> Result<()> {
    let _turn = Turn::take();
    let chain = Chain::new(MetalReplay::Auto)?;
    let large = chain.device.alloc(DType::F32, &[5000])?;
    let set = ResidencySet::new(&chain.device);
    set.add(&chain.x)?;
    set.add(&large)?;
    assert_eq!(classes::resident(), [], "staged");
    chain.commit()?.wait()?;
    assert_eq!(classes::resident(), [bytes(100), bytes(5000)]);
    set.remove(&chain.x)?;
    // Used by the submission that would flush it.
    chain.commit()?.wait()?;
    assert_eq!(classes::resident(), [bytes(100), bytes(5000)]);
    chain.device.encoder("nothing")?.commit_and_wait()?;
    assert_eq!(classes::resident(), [bytes(5000)]);
    drop((set, large));
    chain.device.encoder("nothing")?.commit_and_wait()?;
    assert_eq!(classes::resident(), []);
    drop(chain);
    assert_silent();
    Ok(())
}

#[test]
fn a_system_without_residency_sets_does_without() -> Result<()> {
    let _turn = Turn::take();
    classes::set_residency_sets(false);
    let chain = Chain::new(MetalReplay::Auto);
    classes::set_residency_sets(true);
    let chain = chain?;
    assert!(!chain.device.info().features.contains(&"residency-sets"));
    let set = ResidencySet::new(&chain.device);
    set.add(&chain.x)?;
    chain.commit()?.wait()?;
    assert_eq!((set.stats().resident, classes::resident()), (1, vec![]));
    set.remove(&chain.x)?;
    let compiled = chain.compile()?;
    compiled.replay()?;
    compiled.replay()?.wait()?;
    assert!(chain.is_right(3)?);
    assert!(super::open(MetalReplay::Auto).info().features.contains(&"residency-sets"));
    assert_silent();
    Ok(())
}

#[test]
fn no_more_is_wired_than_the_system_recommends() -> Result<()> {
    let _turn = Turn::take();
    let before = classes::set_working_set((bytes(100) + bytes(500)) as u64);
    let chain = Chain::new(MetalReplay::Auto);
    classes::set_working_set(before);
    let chain = chain?;
    let set = ResidencySet::new(&chain.device);
    let nothing = || chain.device.encoder("nothing")?.commit_and_wait();
    let [large, small] = [5000, 500].map(|len| chain.device.alloc(DType::F32, &[len]));
    let (large, small) = (large?, small?);
    for (buffer, resident) in
        [(&chain.x, vec![bytes(100)]), (&large, vec![bytes(100)]), (&small, vec![bytes(100), bytes(500)])]
    {
        set.add(buffer)?;
        nothing()?;
        assert_eq!(classes::resident(), resident);
    }
    // What was never wired is no member that could be taken out, and what is taken out makes room.
    set.remove(&large)?;
    set.remove(&small)?;
    nothing()?;
    assert_eq!(classes::resident(), [bytes(100)]);
    set.add(&small)?;
    nothing()?;
    assert_eq!(classes::resident(), [bytes(100), bytes(500)]);
    chain.commit()?.wait()?;
    assert!(chain.is_right(1)?);
    assert_silent();
    Ok(())
}
