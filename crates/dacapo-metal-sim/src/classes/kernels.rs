//! Texts, their kernels, and pipelines made from them.

use std::sync::Arc;

use objc2::DefinedClass;
use objc2::rc::Retained;

use super::descriptors::PipelineDescriptor;
use super::foundation::Text;
use super::living;
use crate::gpu::Code;
use crate::msl::{Function, Library};

class!(CompiledText "SimulatedLibrary" { Arc<Library> }
    #[unsafe(method_id(newFunctionWithName:))]
    fn function(&self, name: &Text) -> Option<Retained<Kernel>> {
        let name = name.says();
        self.ivars().function(&name).is_some().then(|| Kernel::make((self.ivars().clone(), name)))
    }
);

class!(Kernel "SimulatedFunction" { (Arc<Library>, String) });

impl Kernel {
    fn function(&self) -> Option<Function> {
        let (library, name) = living(self).ivars();
        library.function(name)
    }
}

class!(PipelineState "SimulatedComputePipelineState" { Arc<Code> }
    #[unsafe(method(maxTotalThreadsPerThreadgroup))]
    fn most_threads(&self) -> usize {
        self.code().most
    }

    #[unsafe(method(threadExecutionWidth))]
    fn width(&self) -> usize {
        Function::simdgroup_width() as usize
    }
);

impl PipelineState {
    pub fn code(&self) -> &Arc<Code> {
        living(self).ivars()
    }

    /// A pipeline as it is described.
    pub fn new(described: &PipelineDescriptor) -> Result<Retained<PipelineState>, String> {
        let said = described.said();
        let kernel = said.kernel.as_ref().ok_or("a pipeline without a function")?;
        let function = kernel.function().ok_or("the function is gone")?;
        let own = function.max_threads() as usize;
        let most = if said.most_threads == 0 { own } else { said.most_threads };
        if most > own {
            return Err(format!("{most} threads of a threadgroup are asked for; the text takes {own}"));
        }
        let code =
            Code { label: said.label.clone(), function, most, whole: said.whole, indirect: said.indirect };
        Ok(PipelineState::make(Arc::new(code)))
    }
}
