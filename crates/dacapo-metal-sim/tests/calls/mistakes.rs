//! Mistakes in the use of Metal, one each.

use objc2_foundation::NSRange;

use super::*;

#[test]
fn an_encoder_that_does_not_end() {
    let bench = Bench::new();
    autoreleasepool(|_| {
        let commands = bench.commands();
        let encoder = bench.encoder(&commands);
        bench.bind(&encoder, 1.0);
        dispatch(&encoder, 1, 64);
        commands.commit();
    });
    gpu::settle();
    let all = forget_complaints().join("\n");
    assert!(
        all.contains("committed while an encoder is open") && all.contains("freed without having ended"),
        "{all}"
    );
}

#[test]
fn two_encoders_at_once() {
    let bench = Bench::new();
    autoreleasepool(|_| {
        let commands = bench.commands();
        let (one, two) = (bench.encoder(&commands), bench.encoder(&commands));
        one.endEncoding();
        two.endEncoding();
    });
    complained("made while another is open");
}

#[test]
fn a_call_after_the_end() {
    let bench = Bench::new();
    autoreleasepool(|_| {
        let commands = bench.commands();
        let encoder = bench.encoder(&commands);
        encoder.endEncoding();
        encoder.memoryBarrierWithScope(MTLBarrierScope::Buffers);
    });
    complained("memoryBarrier is called on an encoder that has ended");
}

#[test]
fn a_commit_too_many() {
    let bench = Bench::new();
    autoreleasepool(|_| {
        let commands = bench.commands();
        commands.commit();
        commands.commit();
    });
    complained("commit is called on a command buffer that was committed");
}

#[test]
fn an_encoder_after_the_commit() {
    let bench = Bench::new();
    autoreleasepool(|_| {
        let commands = bench.commands();
        commands.commit();
        bench.encoder(&commands).endEncoding();
    });
    complained("computeCommandEncoder is called on a command buffer that was committed");
}

#[test]
fn a_dispatch_without_a_pipeline() {
    let bench = Bench::new();
    autoreleasepool(|_| {
        let commands = bench.commands();
        let encoder = bench.encoder(&commands);
        dispatch(&encoder, 1, 64);
        encoder.endEncoding();
    });
    complained("a dispatch without a pipeline");
}

#[test]
fn a_buffer_that_is_not_bound() {
    let bench = Bench::new();
    let status = autoreleasepool(|_| {
        let commands = bench.commands();
        let encoder = bench.encoder(&commands);
        encoder.setComputePipelineState(&bench.state);
        // SAFETY: what the kernel asks for, but for one buffer.
        unsafe {
            encoder.setThreadgroupMemoryLength_atIndex(256, 0);
            encoder.setBuffer_offset_atIndex(Some(&bench.x), 0, 0);
        }
        bytes(&encoder, &[0, 64]);
        dispatch(&encoder, 1, 64);
        encoder.endEncoding();
        commands.commit();
        gpu::settle();
        commands.status()
    });
    assert_eq!(status, MTLCommandBufferStatus::Error);
    complained("nothing is bound to buffer(1)");
}

#[test]
fn offsets_past_the_end_or_between_words() {
    let bench = Bench::new();
    for offset in [256, 2] {
        // SAFETY: the simulation looks first.
        bench.run(|encoder| unsafe { encoder.setBuffer_offset_atIndex(Some(&bench.y), offset, 1) });
        complained(&format!("buffer 1 of 256 bytes is bound at {offset}"));
    }
}

#[test]
fn an_offset_that_leaves_too_little() {
    let bench = Bench::new();
    // SAFETY: the simulation looks first.
    let status = bench.run(|encoder| unsafe { encoder.setBuffer_offset_atIndex(Some(&bench.y), 128, 1) });
    assert_eq!(status, MTLCommandBufferStatus::Error);
    complained("add_");
}

#[test]
fn inline_bytes_too_many_or_too_few() {
    let bench = Bench::new();
    bench.run(|encoder| bytes(encoder, &[0; 1025]));
    complained("4100 bytes are set inline");
    let status = bench.run(|encoder| bytes(encoder, &[0]));
    assert_eq!(status, MTLCommandBufferStatus::Error);
    complained("buffer(30) has 4 bytes");
}

#[test]
fn threadgroup_memory_that_is_odd_too_much_or_too_little() {
    let bench = Bench::new();
    for (length, says) in
        [(250, "250 bytes of threadgroup memory"), (65_536, "65536 bytes"), (240, "threadgroup(0) has 240")]
    {
        // SAFETY: the simulation looks first.
        bench.run(|encoder| unsafe { encoder.setThreadgroupMemoryLength_atIndex(length, 0) });
        complained(says);
    }
    // What was set for another pipeline counts.
    // SAFETY: as above.
    bench.run(|encoder| unsafe { encoder.setThreadgroupMemoryLength_atIndex(32_768, 1) });
    complained("33024 bytes of threadgroup memory in all");
}

#[test]
fn threadgroups_too_large_or_none() {
    let bench = Bench::new();
    bench.run(|encoder| dispatch(encoder, 1, 128));
    complained("at most 64 threads");
    bench.run(|encoder| dispatch(encoder, 0, 64));
    complained("[0, 1, 1] threadgroups");
}

#[test]
fn a_buffer_freed_before_it_is_used() {
    let bench = Bench::new();
    gpu::hold();
    let commands = autoreleasepool(|_| {
        let commands = bench.commands();
        let encoder = bench.encoder(&commands);
        bench.bind(&encoder, 1.0);
        let short = bench.device.newBufferWithLength_options(256, options()).unwrap();
        // SAFETY: it is not kept, which is the mistake.
        unsafe { encoder.setBuffer_offset_atIndex(Some(&short), 0, 1) };
        dispatch(&encoder, 1, 64);
        encoder.endEncoding();
        commands.commit();
        commands
    });
    gpu::resume();
    gpu::settle();
    assert_eq!(commands.status(), MTLCommandBufferStatus::Error);
    complained("buffer 1: a SimulatedBuffer was freed before the device was done with it");
}

#[test]
fn a_command_buffer_that_keeps_what_it_uses_is_sound() {
    let bench = Bench::new();
    gpu::hold();
    let commands = autoreleasepool(|_| {
        let commands = bench.queue.commandBuffer().unwrap();
        let encoder = bench.encoder(&commands);
        bench.bind(&encoder, 1.0);
        let short = bench.device.newBufferWithLength_options(256, options()).unwrap();
        // SAFETY: it is kept.
        unsafe { encoder.setBuffer_offset_atIndex(Some(&short), 0, 1) };
        dispatch(&encoder, 1, 64);
        encoder.endEncoding();
        commands.commit();
        commands
    });
    gpu::resume();
    gpu::settle();
    assert_eq!(commands.status(), MTLCommandBufferStatus::Completed);
    assert_eq!(forget_complaints(), Vec::<String>::new());
}

#[test]
fn more_command_buffers_than_the_queue_has() {
    let bench = Bench::new();
    autoreleasepool(|_| {
        let all: Vec<_> = (0..9).map(|_| bench.commands()).collect();
        complained("8 command buffers exist: another is waited for, for ever");
        drop(all);
    });
}

#[test]
fn an_event_that_falls() {
    let bench = Bench::new();
    let event = bench.device.newSharedEvent().unwrap();
    autoreleasepool(|_| {
        for value in [2, 1] {
            let commands = bench.commands();
            commands.encodeSignalEvent_value(ProtocolObject::from_ref(&*event), value);
            commands.commit();
        }
    });
    gpu::settle();
    complained("events only rise");
}

#[test]
fn residency_taken_from_what_is_used() {
    let bench = Bench::new();
    gpu::hold();
    autoreleasepool(|_| {
        let set =
            bench.device.newResidencySetWithDescriptor_error(&MTLResidencySetDescriptor::new()).unwrap();
        set.addAllocation(ProtocolObject::from_ref(&*bench.x));
        set.commit();
        let commands = bench.commands();
        let encoder = bench.encoder(&commands);
        bench.bind(&encoder, 1.0);
        dispatch(&encoder, 1, 64);
        encoder.endEncoding();
        commands.commit();
        set.removeAllocation(ProtocolObject::from_ref(&*bench.x));
        set.commit();
    });
    complained("loses its residency while the device uses it");
}

#[test]
fn memory_that_is_not_whole_pages() {
    let bench = Bench::new();
    let mut memory = vec![0_u8; 8192];
    let odd = NonNull::from(&mut memory[1]).cast::<c_void>();
    // SAFETY: the simulation looks first.
    let buffer = unsafe {
        bench.device.newBufferWithBytesNoCopy_length_options_deallocator(odd, 4096, options(), None)
    };
    assert!(buffer.is_none());
    complained("only whole pages can be");
}

/// Indirect commands, and the parameters that they read.
struct Indirect {
    commands: Object<dyn MTLIndirectCommandBuffer>,
    params: Object<dyn MTLBuffer>,
}

/// Two indirect commands: `y = x + 2`, then `x = y + 2`.
fn indirect(bench: &Bench, state: &ProtocolObject<dyn MTLComputePipelineState>, wait: bool) -> Indirect {
    let describe = MTLIndirectCommandBufferDescriptor::new();
    describe.setCommandTypes(MTLIndirectCommandType::ConcurrentDispatch);
    describe.setInheritPipelineState(false);
    describe.setInheritBuffers(false);
    describe.setMaxKernelBufferBindCount(31);
    // SAFETY: as many as the kernel has, and two commands that are there.
    unsafe {
        describe.setMaxKernelThreadgroupMemoryBindCount(1);
        let commands = bench.device.newIndirectCommandBufferWithDescriptor_maxCommandCount_options(
            &describe,
            2,
            options(),
        );
        let commands = commands.unwrap();
        let words = [2.0_f32.to_bits(), 64];
        let params =
            bench.device.newBufferWithBytes_length_options(NonNull::from(&words).cast(), 8, options());
        let params = params.unwrap();
        for (index, [from, to]) in [[&bench.x, &bench.y], [&bench.y, &bench.x]].into_iter().enumerate() {
            let command = commands.indirectComputeCommandAtIndex(index);
            command.setComputePipelineState(state);
            command.setKernelBuffer_offset_atIndex(from, 0, 0);
            command.setKernelBuffer_offset_atIndex(to, 0, 1);
            command.setKernelBuffer_offset_atIndex(&params, 0, 30);
            command.setThreadgroupMemoryLength_atIndex(256, 0);
            if index == 1 && wait {
                command.setBarrier();
            }
            let size = |width| MTLSize { width, height: 1, depth: 1 };
            command.concurrentDispatchThreadgroups_threadsPerThreadgroup(size(1), size(64));
        }
        Indirect { commands, params }
    }
}

/// Runs the commands, with these resources declared.
fn execute(
    bench: &Bench,
    indirect: &Indirect,
    usages: &[(&Object<dyn MTLBuffer>, MTLResourceUsage)],
    count: usize,
) -> MTLCommandBufferStatus {
    autoreleasepool(|_| {
        let buffer = bench.commands();
        let encoder = bench.encoder(&buffer);
        for (resource, usage) in usages.iter().copied().chain([(&indirect.params, MTLResourceUsage::Read)]) {
            let resource: &ProtocolObject<dyn MTLResource> = ProtocolObject::from_ref(&**resource);
            let mut first = NonNull::from(resource);
            // SAFETY: one resource, which lives.
            unsafe { encoder.useResources_count_usage(NonNull::from(&mut first), 1, usage) };
        }
        // SAFETY: the simulation looks first.
        unsafe { encoder.executeCommandsInBuffer_withRange(&indirect.commands, NSRange::new(0, count)) };
        encoder.endEncoding();
        buffer.commit();
        gpu::settle();
        buffer.status()
    })
}

#[test]
fn indirect_commands_run_and_have_to_be_told_of() {
    let bench = Bench::new();
    let both = MTLResourceUsage::Read | MTLResourceUsage::Write;
    let sound = [(&bench.x, both), (&bench.y, both)];
    let commands = autoreleasepool(|_| indirect(&bench, &bench.state, true));
    for _ in 0..10 {
        bench.values(&bench.x).fill(1.0);
        assert_eq!(execute(&bench, &commands, &sound, 2), MTLCommandBufferStatus::Completed);
        assert_eq!((bench.values(&bench.x)[0], bench.values(&bench.y)[0]), (5.0, 3.0));
    }
    assert_eq!(forget_complaints(), Vec::<String>::new());
    let read = [(&bench.x, both), (&bench.y, MTLResourceUsage::Read)];
    assert_eq!(execute(&bench, &commands, &read, 2), MTLCommandBufferStatus::Error);
    complained("buffer 1 is written and was not declared so");
    assert_eq!(execute(&bench, &commands, &sound[1..], 2), MTLCommandBufferStatus::Error);
    complained("buffer 0 is read and was not declared so");
    assert_eq!(execute(&bench, &commands, &sound, 3), MTLCommandBufferStatus::Error);
    complained("commands 0 to 3 of 2");
}

#[test]
fn indirect_commands_without_a_barrier_run_in_any_order() {
    let bench = Bench::new();
    let both = MTLResourceUsage::Read | MTLResourceUsage::Write;
    let commands = autoreleasepool(|_| indirect(&bench, &bench.state, false));
    let mut seen = [false; 2];
    for _ in 0..50 {
        bench.values(&bench.x).fill(1.0);
        bench.values(&bench.y).fill(7.0);
        execute(&bench, &commands, &[(&bench.x, both), (&bench.y, both)], 2);
        let found = (bench.values(&bench.x)[0], bench.values(&bench.y)[0]);
        seen[usize::from(found == (5.0, 3.0))] = true;
    }
    assert_eq!(seen, [true; 2], "both orders");
}

#[test]
fn a_pipeline_that_was_not_made_for_indirect_commands() {
    let bench = Bench::new();
    autoreleasepool(|_| indirect(&bench, &pipeline(&bench.device, false), true));
    complained("was not made for indirect commands");
}
