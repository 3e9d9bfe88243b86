"""The demo's own small CLIP: pictures drawn, captions written, both towers trained.

python -m filo.demo.pretrain
"""
