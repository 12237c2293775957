"""The language of ``paper_configs/*.yaml`` at one scale, as pydantic models: every key, its type and what is allowed.

Unknown keys are refused, values are not converted, and what contradicts itself is an error. Nothing here imports torch.
"""
