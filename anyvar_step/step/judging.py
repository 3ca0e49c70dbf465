"""Does a VCF in pieces fit the reference? No piece alone can tell; what their workers counted can."""

from __future__ import annotations

from anyvar_step.models import Counts, RunReport


class Judge:
    """Hears the reports of the pieces of the VCF ``name`` in order, as a worker's own judge hears blocks.

    Both methods raise InvalidInput where the whole, at once, would have been refused. AnyVar's workers
    count nothing: then nothing is judged.
    """

    def __init__(self, name: str, assembly: str, *, force: bool) -> None:
        self._name, self._assembly = name, assembly
        self._counts, self._heard = Counts(), 0
        self._all_told = not force
        self._refs_judged = force

    def hear(self, report: RunReport | None) -> None:
        """Judge the first REFs as soon as there are enough; where the first piece has, its worker did."""
        # Here, since it brings the engine, and few steps cut.
        from anyvar_step.pipeline.judgement import SAMPLE, check_refs, compared

        if report is None:
            self._all_told, self._refs_judged = False, True
            return
        self._heard += 1
        self._counts.add(report.counts)
        if not self._refs_judged and compared(self._counts) >= SAMPLE:
            self._refs_judged = True
            if self._heard > 1:
                check_refs(self._counts, self._assembly, self._name)

    def end(self) -> None:
        """Judge the contigs, when all pieces were heard."""
        from anyvar_step.pipeline.judgement import check_contigs

        if self._all_told:
            check_contigs(self._counts, self._assembly, self._name)
