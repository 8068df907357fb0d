"""Fine-tune Phi-3-Vision on a table of images and fields, and prove that the result looks at the image.

After ``import phisight`` the Auto classes of transformers know Phi-3-Vision::

    import phisight
    from transformers import AutoModelForImageTextToText, AutoProcessor
    model = AutoModelForImageTextToText.from_pretrained("microsoft/Phi-3.5-vision-instruct")

The import itself loads neither transformers nor torch: see ``phisight.registration``.
"""

from phisight import registration

__version__ = "0.1.0"

registration.register_with_transformers()
